#include "engine/serving/prefix_finder.h"

#include <utility>

namespace gander {

PrefixFinder::PrefixFinder(StateCache* cache) : cache_(cache) {
  if (cache_ != nullptr) thread_ = std::thread([this] { run(); });
}

PrefixFinder::~PrefixFinder() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void PrefixFinder::find(std::shared_ptr<const Submission> submission, OnFound on_found) {
  {
    const std::lock_guard lock(mutex_);
    questions_.push_back({std::move(submission), std::move(on_found)});
  }
  wake_.notify_one();
}

void PrefixFinder::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return is_stopping_ || !questions_.empty(); });
    if (is_stopping_) return;
    Question question = std::move(questions_.front());
    questions_.pop_front();
    lock.unlock();
    std::optional<CachedState> found;
    try {
      found = cache_->find(question.submission->text, question.submission->ids);
    } catch (...) {  // NOLINT(bugprone-empty-catch): a cache that fails costs a computation
    }
    question.on_found(std::move(found));
    question = {};
    lock.lock();
  }
}

}  // namespace gander
