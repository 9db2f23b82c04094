#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/zeroed_allocator.h"
#include "model/config.h"

namespace gander {

/// The whole memory of one sequence: what the model keeps between tokens. Per layer, in fp32:
///   att_shift [C]      the post-ln1 vector of the previous token
///   S         [H,N,N]  row i = value index, column j = key index
///   ffn_shift [C]      the post-ln2 vector of the previous token
/// All zero before the first token. Every backend reads and writes this format.
class State {
 public:
  State() = default;
  explicit State(const Config& config);

  std::span<float> att_shift(std::uint32_t layer);
  std::span<float> matrix(std::uint32_t layer);
  std::span<float> ffn_shift(std::uint32_t layer);
  std::span<const float> att_shift(std::uint32_t layer) const;
  std::span<const float> matrix(std::uint32_t layer) const;
  std::span<const float> ffn_shift(std::uint32_t layer) const;

  /// All layers: att_shift, S, ffn_shift, layer after layer.
  std::span<float> values() { return values_; }
  std::span<const float> values() const { return values_; }

  /// Sets every value to zero.
  void clear();

  std::uint32_t layers() const { return layers_; }
  std::uint32_t heads() const { return heads_; }
  std::uint32_t head_size() const { return head_size_; }
  std::uint32_t width() const { return heads_ * head_size_; }
  bool fits(const Config& config) const;
  /// Of the values of a state for `config`.
  static std::uint64_t bytes(const Config& config);

 private:
  std::size_t layer_size() const;

  std::uint32_t layers_ = 0, heads_ = 0, head_size_ = 0;
  std::vector<float, ZeroedAllocator<float>> values_;
};

/// A state on disk, with what is needed to go on from it.
struct SavedState {
  State state;
  std::uint64_t fingerprint = 0;  ///< of the model that made it; 0 when the file does not say
  std::vector<TokenId> tokens;    ///< the tokens it has read, as far as they are known
  std::string note;               ///< free text of the application (the chat keeps JSON here)
};

/// Writes `saved` to `path`, whole or not at all. The format is in docs/formats.md.
void write_state(const std::string& path, const SavedState& saved);
/// The same for parts that are kept apart.
void write_state(const std::string& path, const State& state, std::uint64_t fingerprint,
                 std::span<const TokenId> tokens, std::string_view note,
                 AtomicFile::Sync sync = AtomicFile::Sync::Yes);

/// The bytes of such a file.
std::string state_file_bytes(const State& state, std::uint64_t fingerprint,
                             std::span<const TokenId> tokens, std::string_view note);
/// How many these are.
std::uint64_t state_file_size(const Config& config, std::uint64_t tokens, std::uint64_t note_size);

/// Reads a file of write_state, or a state-tuned `.pth` / web-rwkv `.st` with
/// `blocks.N.att.time_state`. Throws Error when it is corrupt or not for a model of `config`.
SavedState read_state(const std::string& path, const Config& config);

/// The same for bytes in memory in write_state's format; `path` is for messages.
SavedState parse_state(std::span<const std::byte> bytes, const std::string& path);

}  // namespace gander
