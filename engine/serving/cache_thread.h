#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/cache/state_cache.h"
#include "engine/serving/state_copy.h"
#include "engine/serving/submission.h"

namespace gander {

/// What the state cache had of a prompt.
struct FoundState {
  CachedState cached;
  std::shared_ptr<StateCopy> copy;  ///< of cached.state
};

/// Asks the state cache, and gives it states, on a thread of its own: it may read a file, and
/// states may have to come from a device, for which no text that is being generated should wait.
/// Questions come first, but who asks finds what was given before, and where many states wait one
/// is taken after each question. Of more than four a slot of the backend one is given up: memory
/// has an end, and a cache promises nothing.
class CacheThread {
 public:
  using OnFound = std::function<void(std::optional<FoundState> found)>;

  /// Without a cache there is no thread, and nothing to be asked. `backend` and `pool` outlive it.
  CacheThread(StateCache* cache, Backend& backend, StatePool& pool);
  /// Keeps what it was given, and forgets what was asked and not answered.
  ~CacheThread();
  CacheThread(const CacheThread&) = delete;
  CacheThread& operator=(const CacheThread&) = delete;

  /// Calls `on_found` on the thread.
  void find(std::shared_ptr<const Submission> submission, OnFound on_found);
  /// As StateCache::insert. A state that cannot be had is not kept.
  void keep(std::vector<TokenId> tokens, std::shared_ptr<StateCopy> state, bool is_turn);

 private:
  struct Question {
    std::shared_ptr<const Submission> submission;
    OnFound on_found;
  };
  struct Gift {
    std::vector<TokenId> tokens;
    std::shared_ptr<StateCopy> state;
    bool is_turn = false;
  };

  void run();
  std::vector<Gift> take_gifts_for(const Submission& submission);
  void insert(const Gift& gift);
  void answer(const Question& question);

  StateCache* const cache_;
  Backend& backend_;
  StatePool& pool_;
  const std::size_t most_gifts_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Question> questions_;
  std::deque<Gift> gifts_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace gander
