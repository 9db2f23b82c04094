#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/cache/prefix_index.h"
#include "engine/cache/state_folder.h"
#include "engine/model.h"
#include "model/state.h"

namespace gander {

struct CacheOptions {
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;  ///< of states kept in memory; 0: none
  std::string folder = {};                              ///< of states on disk; empty: none
  std::uint64_t disk_bytes = std::uint64_t{8} << 30;    ///< of all state files in `folder`
  /// Of states that wait to be written; beyond it they are not written. One state always may wait.
  std::uint64_t queue_bytes = std::uint64_t{128} << 20;
  /// Called with one line when the disk tier cannot be used or is given up; from any thread.
  std::function<void(const std::string&)> warn = {};
};

struct CacheStatistics {
  std::uint64_t lookups = 0;
  std::uint64_t hits = 0;          ///< lookups that found a state,
  std::uint64_t disk_hits = 0;     ///< of these, read from disk
  std::uint64_t tokens_saved = 0;  ///< tokens that the states found had read
  std::uint64_t memory_bytes = 0, memory_states = 0, memory_evictions = 0;
  std::uint64_t disk_bytes = 0, disk_states = 0, disk_evictions = 0;
  std::uint64_t writes = 0;          ///< states written to disk
  std::uint64_t dropped_writes = 0;  ///< not written, because too many waited
  std::uint64_t corrupt = 0;  ///< files that were damaged or not what their name said: removed
};

/// What find() returns.
struct CachedState {
  std::shared_ptr<const State> state;
  std::vector<TokenId> tokens;  ///< that the state has read
  std::size_t text_size = 0;    ///< bytes of the prompt that these are
  /// False: `tokens` begin the prompt's canonical tokens. True: only their bytes begin the
  /// prompt's, and what follows text_size is to be encoded on its own.
  bool by_text = false;
};

/// States by what they have read, so that a text that begins like one before is not read again.
/// Two tiers with byte limits, each forgetting what was used longest ago: memory, and a folder that
/// outlives the process. All functions may be called from any thread.
///
/// The folder is used by one process at a time, a second one goes without. Files carry checksums
/// and the model's fingerprint: one that is damaged is removed and never returned. Turn ends are
/// written at once, other states when they have been found once: a state nobody came back to is not
/// worth its megabytes. Writing is done by a thread of the cache's own.
class StateCache {
 public:
  /// Opens the folder, making it if need be. A folder that cannot be used is a warning, no error.
  explicit StateCache(const Model& model, CacheOptions options = {});
  /// Ends the file being written; what else waits is not written (see flush).
  ~StateCache();
  StateCache(const StateCache&) = delete;
  StateCache& operator=(const StateCache&) = delete;

  /// The state that has read most of a prompt, but not all of it, so that there is something left
  /// to get logits from. Either its tokens begin `tokens`, the canonical encoding of the prompt
  /// with its leading token 0; or it was stored as the end of a turn and its bytes begin `text`,
  /// the prompt: what was sampled need not be canonical. May read a file (milliseconds).
  std::optional<CachedState> find(std::string_view text, std::span<const TokenId> tokens);

  /// Keeps the state after `tokens`, all that it has read with the leading token 0. `is_turn`: the
  /// end of a turn, which a later prompt may begin with as text. Never waits for the disk.
  /// Throws Error when the state is not of this model's shape or `tokens` is empty.
  void insert(std::span<const TokenId> tokens, std::shared_ptr<const State> state, bool is_turn);

  /// Whether find() could return a state for such a prompt that has read `read`, and was inserted
  /// as the end of a turn or not.
  bool serves(std::span<const TokenId> read, bool is_turn, std::string_view text,
              std::span<const TokenId> tokens) const;

  /// Whether the state after `tokens` is in memory: then nobody need read it from a device.
  bool contains(std::span<const TokenId> tokens) const;

  /// Returns when all that waited is written.
  void flush();

  CacheStatistics statistics() const;

 private:
  /// In memory, on disk, or both.
  struct Entry {
    StateKey key;
    std::shared_ptr<const State> state;      ///< null: only on disk
    std::vector<TokenId> tokens;             ///< empty without the state
    std::list<std::uint64_t>::iterator use;  ///< its place in memory_use_, with the state
    bool on_disk = false;
  };
  struct Write {
    StateKey key;
    std::vector<TokenId> tokens;
    std::shared_ptr<const State> state;
  };

  StateKey key_of(std::span<const TokenId> tokens, bool is_turn) const;
  bool is_text(std::span<const TokenId> tokens) const;
  bool begins(std::span<const TokenId> entry, std::string_view text,
              std::span<const TokenId> tokens, bool by_text) const;
  std::size_t text_size(std::span<const TokenId> tokens) const;
  Entry& add_entry(const StateKey& key);
  void make_turn(Entry& entry, const StateKey& key);
  void erase_if_gone(std::uint64_t id);
  void keep(Entry& entry, std::span<const TokenId> tokens, std::shared_ptr<const State> state);
  void drop_from_memory(Entry& entry);
  void note_removed(const std::string& file_name);
  void queue_write(const Entry& entry, std::span<const TokenId> tokens,
                   const std::shared_ptr<const State>& state);
  enum class Load { Done, Gone, NotNow };
  Load load(std::unique_lock<std::mutex>& lock, std::uint64_t id, SavedState& saved);
  void run_writer();
  void write(const Write& job);
  void warn(const std::string& message) const;

  const CacheOptions options_;
  const Config config_;
  const std::uint64_t fingerprint_;
  const std::shared_ptr<const Tokenizer> tokenizer_;  // null: no texts

  mutable std::mutex mutex_;  // guards all below, but not while a file is read or written
  std::unordered_map<std::uint64_t, Entry> entries_;  // by the hash of their tokens
  PrefixIndex by_tokens_, by_text_;
  std::list<std::uint64_t> memory_use_;  // the latest last
  std::unique_ptr<StateFolder> folder_;  // null: no disk tier
  CacheStatistics statistics_;

  std::deque<Write> writes_;
  std::uint64_t queued_bytes_ = 0;
  bool is_writing_ = false, is_writable_ = false, is_stopping_ = false;
  std::condition_variable wake_writer_, writer_is_idle_;
  std::thread writer_;
};

}  // namespace gander
