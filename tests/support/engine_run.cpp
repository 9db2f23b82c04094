#include "tests/support/engine_run.h"

#include <utility>

namespace gander {

Sink Heard::sink(const std::shared_ptr<Heard>& heard, std::size_t limit) {
  return [heard, limit](const Event& event) {
    const std::lock_guard lock(heard->mutex_);
    Choice& choice = heard->choices_[event.choice];
    if (choice.finishes > 0) ++choice.events_after_finish;
    choice.text += event.text;
    choice.tokens.insert(choice.tokens.end(), event.tokens.begin(), event.tokens.end());
    if (event.finish != nullptr) {
      choice.finish = *event.finish;
      ++choice.finishes;
    }
    heard->bytes_ += event.text.size();
    if (!event.text.empty()) ++heard->events_;
    heard->changed_.notify_all();
    return heard->events_ <= limit;
  };
}

void Heard::wait_for_text(std::size_t bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return bytes_ >= bytes; });
}

Heard::Choice run_alone(Engine& engine, Request request) {
  const auto heard = std::make_shared<Heard>();
  engine.submit(std::move(request), Heard::sink(heard)).wait();
  return heard->choice();
}

}  // namespace gander
