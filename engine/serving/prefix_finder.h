#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/cache/state_cache.h"
#include "engine/serving/submission.h"

namespace gander {

/// Asks the state cache on a thread of its own: it may read a file, for which no text that is being
/// generated should wait.
class PrefixFinder {
 public:
  using OnFound = std::function<void(std::optional<CachedState> found)>;

  /// Without a cache there is no thread, and nothing to be asked.
  explicit PrefixFinder(StateCache* cache);
  /// Forgets what was asked and not answered.
  ~PrefixFinder();
  PrefixFinder(const PrefixFinder&) = delete;
  PrefixFinder& operator=(const PrefixFinder&) = delete;

  bool exists() const { return cache_ != nullptr; }
  /// Calls `on_found` on the thread.
  void find(std::shared_ptr<const Submission> submission, OnFound on_found);

 private:
  struct Question {
    std::shared_ptr<const Submission> submission;
    OnFound on_found;
  };
  void run();

  StateCache* const cache_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Question> questions_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace gander
