#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/serving/event_queue.h"

namespace gander::server {

/// Events on their way from the scheduler's thread to a connection's coroutine. It holds a bounded
/// number of bytes: a client that reads slower than tokens are made fills it, and loses its
/// request.
class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  /// `most_bytes`: of events that were not taken.
  Mailbox(const boost::asio::any_io_executor& executor, std::size_t most_bytes);

  /// From any thread; never waits. False when there is no room, or nobody takes any more: the
  /// request is to be cancelled. A finish is always kept.
  bool put(OwnedEvent event);
  /// Nobody takes any more. On the executor's thread.
  void close();
  bool is_full() const;
  /// Called once on the executor's thread when it is full.
  std::function<void()> on_full = nullptr;

  /// On the executor's thread: all events that are there, waiting for the first; none after
  /// `longest` without any.
  boost::asio::awaitable<std::vector<OwnedEvent>> take(std::chrono::seconds longest);

 private:
  const std::size_t most_bytes_;
  boost::asio::steady_timer arrival_;

  mutable std::mutex mutex_;
  std::vector<OwnedEvent> events_;
  std::size_t bytes_ = 0;
  bool is_waited_for_ = false, is_full_ = false, is_closed_ = false;
};

}  // namespace gander::server
