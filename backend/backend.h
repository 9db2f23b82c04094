#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/generator.h"
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

  /// What generates on the backend's device, for as long as the backend lives; null where the CPU
  /// samples.
  virtual Generator* generator() { return nullptr; }
};

struct BackendOptions {
  unsigned threads = 0;        ///< of the CPU; 0: one per core this process may use
  std::string device = {};     ///< which GPU, by its name or number; empty: the first that serves
  std::string capture = {};    ///< Metal: records GPU work into this .gputrace
  std::string sync = "async";  ///< how often a GPU is waited for: op, layer, token, or async
  bool unfused = false;        ///< a GPU runs the small kernels that check the fused stages
  /// Gets bytes of weights done and in all while a GPU is filled; may be null.
  std::function<void(std::uint64_t done, std::uint64_t all)> progress = nullptr;
  /// Gets a line when something asked for is not to be had and something else is done; may be null.
  std::function<void(std::string_view)> warn = nullptr;
};

/// Names --backend takes, the default first.
std::vector<std::string_view> backend_names();

/// Creates the backend called `name`. "auto" is Metal where it is, checked by a self-test, else the
/// CPU. `weights` is shared, not copied. Throws Error for an unknown name or a device that is not
/// there or cannot hold the model.
std::unique_ptr<Backend> create_backend(std::string_view name,
                                        std::shared_ptr<const Weights> weights,
                                        const BackendOptions& options = {});

}  // namespace gander
