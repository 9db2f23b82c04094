#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/cache/prefix_index.h"
#include "model/state.h"

namespace gander {

/// What a state has read, as far as it is needed to find it; and the name of its file.
struct StateKey {
  Prefix tokens, text;   ///< text: the bytes of the tokens
  bool is_turn = false;  ///< it may be found by its text

  std::string file_name(std::uint64_t fingerprint) const;
  /// The key whose file has this name, and the model's fingerprint in it; or nothing.
  static std::optional<StateKey> parse(const std::string& name, std::uint64_t& fingerprint);
};

/// The disk tier of a StateCache: files of write_state in one folder, oldest use first, and how
/// many bytes they have. Files of other models stay until they are the oldest. Only read() may be
/// called while another function is; the others are for one thread at a time.
class StateFolder {
 public:
  /// Makes the folder if need be, takes it for this process (a lock that dies with it), lists what
  /// is there, and removes what a process left half-written. Throws Error.
  StateFolder(const std::string& path, std::uint64_t limit, std::uint64_t fingerprint);
  ~StateFolder();
  StateFolder(const StateFolder&) = delete;
  StateFolder& operator=(const StateFolder&) = delete;

  /// Of the states of this model.
  std::vector<StateKey> keys() const;
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t limit() const { return limit_; }
  std::size_t size() const { return files_.size(); }

  /// Forgets the files that were used longest ago, so that `size` more bytes keep the limit, and
  /// returns their names: the caller removes them. False when the limit is smaller than that.
  bool make_room(std::uint64_t size, std::vector<std::string>& names);
  /// Counts a file that was just written.
  void add(const std::string& name, std::uint64_t size);
  /// Notes that a file was used, also for the next process.
  void touch(const std::string& name);
  /// Forgets a file and removes it.
  void remove(const std::string& name);

  /// Reads the state under `key`. Throws Error when the file is absent, damaged, or not what its
  /// name says, and another exception when there is no memory or descriptor for it now.
  SavedState read(const StateKey& key, const Config& config) const;

 private:
  struct File {
    std::string name;
    std::uint64_t size;
  };

  void list();

  std::string path_;
  std::uint64_t limit_, fingerprint_;
  int descriptor_ = -1;  // of the folder; holds the lock
  std::uint64_t bytes_ = 0;
  std::list<File> files_;  // in the order of use, the latest last
  std::unordered_map<std::string, std::list<File>::iterator> by_name_;
};

/// Removes a file; one that is absent is no error. Throws Error.
void remove_file(const std::string& path);

}  // namespace gander
