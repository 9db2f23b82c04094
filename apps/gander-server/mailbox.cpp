#include "apps/gander-server/mailbox.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace gander::server {
namespace {

std::size_t bytes_of(const OwnedEvent& event) {
  std::size_t bytes = sizeof(event) + event.text.size();
  for (const TokenChoice& token : event.tokens) {
    bytes += sizeof(token) + token.top.size() * sizeof(token.top.front());
  }
  return bytes;
}

}  // namespace

Mailbox::Mailbox(const boost::asio::any_io_executor& executor, std::size_t most_bytes)
    : most_bytes_(most_bytes), arrival_(executor) {}

bool Mailbox::put(OwnedEvent event) {
  const std::lock_guard lock(mutex_);
  const std::size_t bytes = bytes_of(event);
  if (!is_full_ && !is_closed_ && bytes_ + bytes > most_bytes_) {
    is_full_ = true;
    boost::asio::post(arrival_.get_executor(), [self = shared_from_this()] {
      if (self->on_full) self->on_full();
    });
  }
  if (is_closed_ || (is_full_ && !event.finish)) return false;
  bytes_ += bytes;
  events_.push_back(std::move(event));
  if (is_waited_for_) {
    is_waited_for_ = false;
    boost::asio::post(arrival_.get_executor(),
                      [self = shared_from_this()] { self->arrival_.cancel(); });
  }
  return !is_full_;
}

void Mailbox::close() {
  on_full = nullptr;
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
  events_.clear();
}

bool Mailbox::is_full() const {
  const std::lock_guard lock(mutex_);
  return is_full_;
}

boost::asio::awaitable<std::vector<OwnedEvent>> Mailbox::take(std::chrono::seconds longest) {
  for (bool is_over = false;;) {
    std::vector<OwnedEvent> events;
    {
      const std::lock_guard lock(mutex_);
      events.swap(events_);
      bytes_ = 0;
      is_waited_for_ = events.empty() && !is_over;
      if (!is_waited_for_) co_return events;
    }
    arrival_.expires_after(longest);
    const auto [error] =
        co_await arrival_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    is_over = !error;
  }
}

}  // namespace gander::server
