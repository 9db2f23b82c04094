#include "engine/serving/event_queue.h"

#include <utility>

namespace gander {

OwnedEvent owned(const Event& event) {
  OwnedEvent result = {event.choice,
                       std::string(event.text),
                       {event.tokens.begin(), event.tokens.end()},
                       std::nullopt};
  if (event.finish != nullptr) result.finish = *event.finish;
  return result;
}

Sink EventQueue::sink() {
  return [queue = shared_from_this()](const Event& event) { return queue->push(event); };
}

bool EventQueue::push(const Event& event) {
  const std::lock_guard lock(mutex_);
  if (is_closed_) return false;
  const bool is_full = bytes_ + event.text.size() > max_bytes_;
  if (is_full && event.finish == nullptr) return false;
  bytes_ += event.text.size();
  events_.push_back(owned(event));
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
