#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "backend/backend.h"
#include "engine/model.h"
#include "engine/serving/named_states.h"
#include "engine/serving/request.h"

namespace gander {

class Scheduler;
class StateCache;
struct Submission;

struct EngineOptions {
  /// Tokens of prompts that a step reads at most: so much others wait for their next token.
  std::uint32_t prompt_chunk = 128;
  /// A prompt leaves a state in the cache after every so many tokens, besides at its end.
  std::uint32_t snapshot_every = 512;
  std::size_t max_waiting = 1024;                         ///< requests in the queue
  std::size_t max_waiting_bytes = std::size_t{64} << 20;  ///< of their prompts
  std::uint32_t max_choices = 128;                        ///< of a request
  std::uint32_t max_top_logprobs = 20;
  std::uint64_t named_state_bytes = std::uint64_t{1} << 30;  ///< of NamedStates
  unsigned sampling_threads = 0;  ///< 0: one per core this process may use
};

/// Counts since the engine began, and what it does now.
struct EngineStatistics {
  std::uint32_t slots = 0, running = 0;  ///< sequences that hold a slot
  std::size_t waiting = 0;               ///< requests in the queue
  std::uint64_t requests = 0, refused = 0;
  std::uint64_t prompt_tokens = 0;  ///< read
  std::uint64_t cached_tokens = 0;  ///< not read, because the state cache had them
  std::uint64_t generated_tokens = 0;
  std::uint64_t steps = 0;
  std::array<std::uint64_t, kFinishReasons> finished = {};  ///< choices, by FinishReason
};

/// A request on its way. Copies are the same request; letting go of it does not cancel it.
class Ticket {
 public:
  Ticket() = default;
  explicit Ticket(std::shared_ptr<Submission> submission);
  /// Ends the request within one step, from any thread; its sink gets the finish of every choice.
  void cancel();
  /// Waits until the last finish was given. Not from a sink. False: not within `seconds`.
  void wait() const;
  bool wait_for(std::chrono::duration<double> seconds) const;

 private:
  std::shared_ptr<Submission> submission_;
};

/// Generates many texts at once: a model on a backend whose slots it shares among requests. All
/// functions may be called from any thread.
///
/// Every step of the backend feeds a token of each text that is being generated and a bounded
/// number of tokens of prompts, so neither waits for the other; docs/serving.md says how.
class Engine {
 public:
  /// Uses all slots of `backend`. `cache` (may be null) must outlive the engine.
  Engine(Model model, std::unique_ptr<Backend> backend, const EngineOptions& options = {},
         StateCache* cache = nullptr);
  /// Cancels what is left.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Queues a request; `sink` is called from another thread, possibly before this returns. Throws
  /// Error for a request that cannot be served, and Refused when the queue is full.
  Ticket submit(Request request, Sink sink);

  /// From now on submit() refuses; what was queued goes on.
  void drain();
  /// Whether nothing is queued or generated any more, after at most `seconds`.
  bool wait_until_idle(std::chrono::duration<double> seconds) const;

  NamedStates& states() { return states_; }
  const Model& model() const { return model_; }
  std::uint32_t slots() const;
  std::string backend_description() const;
  EngineStatistics statistics() const;

 private:
  Model model_;
  EngineOptions options_;
  NamedStates states_;
  std::unique_ptr<Scheduler> scheduler_;
};

/// Bytes a slot takes beside the weights: its state in the backend, a copy of it, its sampler and
/// its logits.
std::uint64_t bytes_per_slot(const Config& config);
/// As many slots as are wanted, or as fit into half of the memory that the model leaves; at least
/// one. For BackendOptions::slots.
std::uint32_t slots_that_fit(const Model& model, std::uint32_t wanted);

}  // namespace gander
