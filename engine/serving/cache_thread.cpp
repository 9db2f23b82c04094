#include "engine/serving/cache_thread.h"

#include <utility>

namespace gander {

CacheThread::CacheThread(StateCache* cache, Backend& backend, StatePool& pool)
    : cache_(cache), backend_(backend), pool_(pool) {
  if (cache_ != nullptr) thread_ = std::thread([this] { run(); });
}

CacheThread::~CacheThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void CacheThread::add(Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void CacheThread::find(std::shared_ptr<const Submission> submission, OnFound on_found) {
  add(Question{std::move(submission), std::move(on_found)});
}

void CacheThread::keep(std::vector<TokenId> tokens, std::shared_ptr<StateCopy> state,
                       bool is_turn) {
  add(Gift{std::move(tokens), std::move(state), is_turn});
}

void CacheThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return is_stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    const bool answers = !is_stopping_;
    lock.unlock();
    if (const Gift* gift = std::get_if<Gift>(&job)) {
      try {
        cache_->insert(gift->tokens, gift->state->state(), gift->is_turn);
      } catch (...) {  // NOLINT(bugprone-empty-catch): see answer()
      }
    } else if (answers) {
      answer(std::get<Question>(job));
    }
    job = {};
    lock.lock();
  }
}

void CacheThread::answer(const Question& question) {
  std::optional<FoundState> found;
  try {
    if (auto cached = cache_->find(question.submission->text, question.submission->ids)) {
      auto copy = std::make_shared<StateCopy>(backend_, cached->state, pool_);
      found = FoundState{std::move(*cached), std::move(copy)};
    }
  } catch (...) {  // NOLINT(bugprone-empty-catch): a cache that fails costs a computation
    found.reset();
  }
  question.on_found(std::move(found));
}

}  // namespace gander
