#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/thread_pool.h"
#include "engine/serving/cache_thread.h"
#include "engine/serving/counters.h"
#include "engine/serving/engine.h"
#include "engine/serving/sequence.h"
#include "engine/serving/submission.h"

namespace gander {

/// How many tokens of each prompt a step reads. `budget` tokens in all go to the highest priority
/// first; among equals each gets an even share, and what some have no use for goes to the others
/// in their order. With more prompts than tokens, those from `turn` on have theirs.
struct PromptShare {
  int priority = 0;
  std::size_t readable = 0;  ///< tokens it could read
  std::size_t count = 0;     ///< tokens it gets
};
void share_prompt_budget(std::span<PromptShare> prompts, std::size_t budget, std::size_t turn);

/// The thread that runs a backend for all requests: admits them to slots, makes steps, chooses
/// tokens.
class Scheduler {
 public:
  Scheduler(const Model& model, std::unique_ptr<Backend> backend, const EngineOptions& options,
            StateCache* cache);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Throws Refused.
  void submit(std::shared_ptr<Submission> submission);
  void drain();
  bool wait_until_idle(std::chrono::duration<double> seconds) const;
  const Backend& backend() const { return *backend_; }
  EngineStatistics statistics() const;

 private:
  using Clock = Submission::Clock;
  /// Who has waited longest in the highest priority comes first.
  using Place = std::pair<int, std::uint64_t>;  // -priority, order of arrival
  /// A choice that got a slot.
  struct Admission {
    std::shared_ptr<Submission> submission;
    std::uint32_t choice = 0;
    std::uint32_t slot = 0;
    std::optional<FoundState> found = std::nullopt;
    bool is_found = false;  ///< the cache was asked, if it is to be
  };
  /// A token to be chosen.
  struct Choice {
    Sequence* sequence;
    std::span<float> logits;  ///< empty: the backend chose
  };

  void run();
  bool wait_for_work();
  void drop_waiting(bool all);
  void drop_forks();
  void admit();
  void begin(Admission& admission);
  void queue_forks(const std::shared_ptr<Submission>& submission);
  std::uint32_t take_slot();
  void release_finished();
  void end_all();
  void stop_some(bool all);
  void step();
  void make_step();
  void add_step(Sequence& sequence, std::size_t count);
  bool run_step();
  void choose_tokens();
  template <typename Work>
  static void guarded(Sequence& sequence, const Work& work);

  const Model& model_;
  const EngineOptions options_;
  const std::unique_ptr<Backend> backend_;
  StateCache* const cache_;
  StatePool pool_;
  const std::size_t vocab_size_;
  EngineCounters counters_;
  const std::shared_ptr<std::atomic<std::uint64_t>> cancellations_ =
      std::make_shared<std::atomic<std::uint64_t>>(0);
  std::atomic<std::uint32_t> running_count_{0};

  mutable std::mutex mutex_;  // of the queue
  std::condition_variable wake_;
  mutable std::condition_variable idle_changed_;
  std::map<Place, std::shared_ptr<Submission>> waiting_;
  std::size_t waiting_bytes_ = 0;
  std::uint64_t arrived_ = 0;
  Clock::time_point earliest_deadline_ = Clock::time_point::max();  // of those that wait for a slot
  std::vector<Admission> found_;                                    // by the finder
  bool is_draining_ = false, is_stopping_ = false, is_idle_ = true;

  // The thread's own.
  std::vector<Sequence> sequences_;  // by slot
  std::vector<std::uint32_t> free_;  // slots
  std::vector<Sequence*> running_;   // in the order of admission
  std::deque<Admission> forks_;      // choices whose prompt is read; they come before the queue
  std::vector<Admission> admissions_;
  std::size_t finding_ = 0;  // slots whose beginning is being looked for
  std::uint64_t cancellations_seen_ = 0;
  std::vector<SequenceStep> steps_;
  std::vector<Sequence*> stepped_;  // of each step
  std::vector<Sequence*> readers_;
  std::vector<PromptShare> shares_;
  std::vector<Choice> choices_, sampled_;
  std::vector<float> logits_;
  std::vector<TokenId> best_;
  ThreadPool samplers_;

  CacheThread cache_thread_;
  std::thread thread_;
};

}  // namespace gander
