#include "engine/serving/event_queue.h"

#include <utility>

namespace gander {

Sink EventQueue::sink() {
  return [queue = shared_from_this()](const Event& event) { return queue->push(event); };
}

bool EventQueue::push(const Event& event) {
  const std::lock_guard lock(mutex_);
  if (is_closed_) return false;
  const bool is_full = bytes_ + event.text.size() > max_bytes_;
  if (is_full && event.finish == nullptr) return false;
  OwnedEvent owned = {event.choice,
                      std::string(event.text),
                      {event.tokens.begin(), event.tokens.end()},
                      std::nullopt};
  if (event.finish != nullptr) owned.finish = *event.finish;
  bytes_ += owned.text.size();
  events_.push_back(std::move(owned));
  filled_.notify_one();
  return true;
}

OwnedEvent EventQueue::next() {
  std::unique_lock lock(mutex_);
  filled_.wait(lock, [this] { return !events_.empty(); });
  OwnedEvent event = std::move(events_.front());
  events_.pop_front();
  bytes_ -= event.text.size();
  return event;
}

void EventQueue::close() {
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
  events_.clear();
}

}  // namespace gander
