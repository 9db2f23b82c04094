#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/generator.h"
#include "backend/sampling.h"
#include "model/state.h"
#include "model/weights.h"

namespace gander {

/// Which logits Backend::forward and step return.
enum class Logits { None, Last, All };

/// Tokens that a step feeds to one of a backend's sequences.
struct SequenceStep {
  std::uint32_t slot = 0;           ///< of the sequence, below Backend::slots()
  std::span<const TokenId> tokens;  ///< at least one, each below vocab_size
  Logits which = Logits::Last;
  /// Of the row after the last token `best` gets a token sampled as start_sampling() says; what its
  /// logits are then is unspecified.
  bool sampled = false;
};

/// A sequence's state at some point, kept on a backend's device. Ends before the backend does, on
/// any thread.
class HeldState {
 public:
  virtual ~HeldState() = default;
  /// Copies it out; on any thread, while others use the backend. Throws Error when the device
  /// fails.
  virtual void read(State& state) const = 0;
  /// Makes it the state of a slot; on the thread that uses the backend.
  virtual void write_to(std::uint32_t slot) const = 0;
};

/// Executes a model on one device, for some sequences whose states it holds, each in a slot.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual const Config& config() const = 0;
  /// For people, for example "cpu (avx512, 2 threads)".
  virtual std::string description() const = 0;

  /// Feeds `tokens` (at least one, each below vocab_size) to the sequence in slot 0. `logits`
  /// receives V floats after the last token (Last), V after every token (All), or nothing and may
  /// be empty. Any split of a text into calls leaves the same bits in state and logits where the
  /// backend does not say otherwise. Does not allocate after the first call of a given shape, and
  /// throws nothing.
  virtual void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) = 0;

  /// Lengths of prompts, ascending, that between them take all ways it has of reading more than a
  /// token at once; none where those leave the same bits as reading one by one.
  virtual std::span<const std::uint32_t> telling_lengths() const { return {}; }

  /// Sequences it holds: slots 0 to slots() - 1.
  virtual std::uint32_t slots() const = 0;
  /// Feeds several sequences, each slot at most once. Of the rows that want logits, in the order of
  /// the steps, `logits` receives V floats each and `best` the token of the largest, the first of
  /// equal ones, or the sampled one; either may be empty. What a sequence's state and logits become
  /// does not depend on the others in the step, nor on how its text is cut into steps.
  virtual void step(std::span<const SequenceStep> steps, std::span<float> logits,
                    std::span<TokenId> best = {}) = 0;

  /// Lets the device sample for the sequence in a slot, going on from a sampler that stands at
  /// `memory`, in steps that ask for it. False where it cannot: logits are for the CPU to sample.
  virtual bool start_sampling(std::uint32_t slot, const SamplerSettings& settings,
                              const SamplerMemory& memory) {
    static_cast<void>(slot);
    static_cast<void>(settings);
    static_cast<void>(memory);
    return false;
  }

  /// Copies a sequence's state out, or replaces it; `state` must fit config().
  virtual void read_state(State& state, std::uint32_t slot = 0) const = 0;
  virtual void write_state(const State& state, std::uint32_t slot = 0) = 0;
  /// Starts a new sequence: the state of zeros.
  virtual void reset(std::uint32_t slot = 0) = 0;

  /// Keeps a copy of a slot's state on the device, from where it can be read while steps go on.
  /// Null where that is no faster than read_state(), or where there is no room for another.
  virtual std::unique_ptr<HeldState> hold_state(std::uint32_t slot) {
    static_cast<void>(slot);
    return nullptr;
  }
  /// Brings a state to the device, on any thread and while steps go on, for a slot to get it later.
  /// Null in the same cases.
  virtual std::unique_ptr<HeldState> bring_state(const State& state) {
    static_cast<void>(state);
    return nullptr;
  }

  /// What generates on the backend's device, for as long as the backend lives; null where the CPU
  /// samples.
  virtual Generator* generator() { return nullptr; }
};

struct BackendOptions {
  std::uint32_t slots = 1;     ///< sequences it holds
  bool half_states = false;    ///< a GPU keeps S in 16 bits: more sequences fit, and are faster
  unsigned threads = 0;        ///< of the CPU; 0: one per core this process may use
  std::string device = {};     ///< which GPU, by its name or number; empty: the first that serves
  std::string capture = {};    ///< Metal: records GPU work into this .gputrace
  std::string sync = "async";  ///< how often a GPU is waited for: op, layer, token, or async
  bool unfused = false;        ///< a GPU runs the small kernels that check the fused stages
  bool self_test = true;       ///< a GPU computes a part of the model first, and must be right
  bool token_kernel = true;  ///< one kernel a token, where GPU and model allow it; else the stages
  /// Gets bytes of weights done and in all while a GPU is filled; may be null.
  std::function<void(std::uint64_t done, std::uint64_t all)> progress = nullptr;
  /// Gets a line when something asked for is not to be had and something else is done; may be null.
  std::function<void(std::string_view)> warn = nullptr;
};

/// Names --backend takes, the default first.
std::vector<std::string_view> backend_names();

/// Creates the backend called `name`. "auto" is Metal or CUDA, whichever is there, holds the model
/// and passes a self-test; else the CPU, with a warning unless there simply is no such GPU.
/// `weights` is shared, not copied. Throws Error for an unknown name, and for a device that is not
/// there, cannot hold the model or computes it wrongly.
std::unique_ptr<Backend> create_backend(std::string_view name,
                                        std::shared_ptr<const Weights> weights,
                                        const BackendOptions& options = {});

/// Backend::step for a backend that computes one sequence after the other: `forward(step, logits)`
/// feeds one, and is given room for all logits that it wants.
void step_by_sequence(
    std::span<const SequenceStep> steps, std::uint32_t vocab_size, std::span<float> logits,
    std::span<TokenId> best,
    const std::function<void(const SequenceStep& step, std::span<float> logits)>& forward);

}  // namespace gander
