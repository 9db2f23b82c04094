#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/serving/request.h"

namespace gander {

class StateCopy;

/// A request on its way, shared by its ticket, the queue and its running choices.
struct Submission {
  using Clock = std::chrono::steady_clock;

  Request request;
  Sink sink;
  std::string text;          ///< to read: what was pending, and the prompt
  std::vector<TokenId> ids;  ///< its tokens, or the request's own; token 0 first in a new text
  std::string rest;          ///< the end of the text that is not to be read: see Request::prompt
  std::uint64_t order = 0;   ///< of arrival
  Clock::time_point submitted = Clock::now();

  std::atomic<bool> cancelled{false};
  std::shared_ptr<std::atomic<std::uint64_t>> cancellations;  ///< counted for all of an engine

  // The scheduler's own. The prompt is read once: what other choices go on from.
  std::uint32_t open_choices = 0;                     ///< that have no finish yet
  std::uint32_t forks_due = 0;                        ///< choices that may begin now
  std::shared_ptr<StateCopy> after_prompt = nullptr;  ///< before its last token
  std::vector<TokenId> read_of_prompt = {};           ///< by then
  TokenId last_of_prompt = 0;
  Usage usage = {};  ///< of the prompt

  mutable std::mutex mutex;
  mutable std::condition_variable over_changed;
  bool is_over = false;

  void cancel() {
    if (!cancelled.exchange(true)) ++*cancellations;
  }
  /// Tells the sink; false when the request is to end.
  bool tell(const Event& event) noexcept {
    try {
      if (sink(event)) return true;
    } catch (...) {  // NOLINT(bugprone-empty-catch): the sink's own business; it is told the finish
    }
    cancel();
    return false;
  }
  /// Tells the finish of a choice. After the last one nothing is left but the fact.
  void finish_choice(std::uint32_t choice, const Finish& finish) {
    tell({choice, {}, {}, &finish});
    if (--open_choices > 0) return;
    sink = nullptr;
    request = {};
    after_prompt = nullptr;
    read_of_prompt = {};
    text = {};
    ids = {};
    const std::lock_guard lock(mutex);
    is_over = true;
    over_changed.notify_all();
  }
};

}  // namespace gander
