#include "engine/serving/cache_thread.h"

#include <algorithm>
#include <utility>

namespace gander {
namespace {

constexpr std::uint32_t kGiftsOfASlot = 4;  // the state after a prompt, two on its way, the end

}  // namespace

CacheThread::CacheThread(StateCache* cache, Backend& backend, StatePool& pool)
    : cache_(cache),
      backend_(backend),
      pool_(pool),
      most_gifts_(std::size_t{kGiftsOfASlot} * backend.slots()) {
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

void CacheThread::find(std::shared_ptr<const Submission> submission, OnFound on_found) {
  {
    const std::lock_guard lock(mutex_);
    questions_.push_back({std::move(submission), std::move(on_found)});
  }
  wake_.notify_one();
}

void CacheThread::keep(std::vector<TokenId> tokens, std::shared_ptr<StateCopy> state,
                       bool is_turn) {
  Gift given_up;  // ends without the lock
  {
    const std::lock_guard lock(mutex_);
    if (gifts_.size() == most_gifts_) {
      auto least = std::ranges::find(gifts_, false, &Gift::is_turn);
      if (least == gifts_.end()) least = gifts_.begin();
      given_up = std::move(*least);
      gifts_.erase(least);
    }
    gifts_.push_back({std::move(tokens), std::move(state), is_turn});
  }
  wake_.notify_one();
}

void CacheThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return is_stopping_ || !questions_.empty() || !gifts_.empty(); });
    if (is_stopping_) {
      questions_.clear();
      if (gifts_.empty()) return;
    }
    if (!questions_.empty()) {
      const Question question = std::move(questions_.front());
      questions_.pop_front();
      const std::vector<Gift> gifts = take_gifts_for(*question.submission);
      lock.unlock();
      for (const Gift& gift : gifts) insert(gift);
      answer(question);
      lock.lock();
      if (gifts_.size() < most_gifts_ / 2) continue;
    }
    if (gifts_.empty()) continue;
    const Gift gift = std::move(gifts_.front());
    gifts_.pop_front();
    lock.unlock();
    insert(gift);
    lock.lock();
  }
}

/// Those that the answer may be.
std::vector<CacheThread::Gift> CacheThread::take_gifts_for(const Submission& submission) {
  std::vector<Gift> gifts;
  std::erase_if(gifts_, [&](Gift& gift) {
    if (!cache_->serves(gift.tokens, gift.is_turn, submission.text, submission.ids)) return false;
    gifts.push_back(std::move(gift));
    return true;
  });
  return gifts;
}

void CacheThread::insert(const Gift& gift) {
  try {
    cache_->insert(gift.tokens, gift.state->state(), gift.is_turn);
  } catch (...) {  // NOLINT(bugprone-empty-catch): see answer()
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
