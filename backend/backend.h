#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/state.h"
#include "model/weights.h"

namespace gander {

/// Which logits Backend::forward returns.
enum class Logits { None, Last, All };

/// Executes a model on one device, for one sequence whose state it holds.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual const Config& config() const = 0;
  /// For people, for example "cpu (avx512, 2 threads)".
  virtual std::string description() const = 0;

  /// Feeds `tokens` (at least one, each below vocab_size) to the sequence. `logits` receives V
  /// floats after the last token (Last), V after every token (All), or nothing and may be empty.
  /// Any split of a text into calls leaves the same bits in state and logits. Does not allocate
  /// after the first call of a given shape, and throws nothing.
  virtual void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) = 0;

  /// Copies the sequence's state out, or replaces it; `state` must fit config().
  virtual void read_state(State& state) const = 0;
  virtual void write_state(const State& state) = 0;
  /// Starts a new sequence: the state of zeros.
  virtual void reset() = 0;
};

struct BackendOptions {
  unsigned threads = 0;  ///< 0: one per core this process may use
};

/// Names --backend takes, the default first.
std::vector<std::string_view> backend_names();

/// Creates the backend called `name` ("auto" picks the default). `weights` is shared, not copied.
/// Throws Error for an unknown name or a device that cannot hold the model.
std::unique_ptr<Backend> create_backend(std::string_view name,
                                        std::shared_ptr<const Weights> weights,
                                        const BackendOptions& options = {});

}  // namespace gander
