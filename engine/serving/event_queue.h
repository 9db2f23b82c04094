#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/serving/request.h"

namespace gander {

/// An event that owns what it says.
struct OwnedEvent {
  std::uint32_t choice = 0;
  std::string text = {};
  std::vector<TokenChoice> tokens = {};
  std::optional<Finish> finish = std::nullopt;
};
OwnedEvent owned(const Event& event);

/// Between an engine, which must not wait, and a reader, who may: keeps what was not read yet.
class EventQueue : public std::enable_shared_from_this<EventQueue> {
 public:
  /// When more bytes of text than this wait, the request is cancelled: a reader that is too slow
  /// must not hold memory, nor a slot.
  explicit EventQueue(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  /// For Engine::submit; keeps the queue alive.
  Sink sink();
  /// Waits for the next event. Of each choice the last one has a finish.
  OwnedEvent next();
  /// From now on nothing is kept, and the request is cancelled at its next event.
  void close();

 private:
  bool push(const Event& event);

  const std::size_t max_bytes_;
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<OwnedEvent> events_;
  std::size_t bytes_ = 0;
  bool is_closed_ = false;
};

}  // namespace gander
