#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace gander {

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  std::size_t longest = 0;
  for (std::string& text : stops) {
    if (text.empty()) fail("a stop string is empty; leave it out");
    longest = std::max(longest, text.size());
    Stop stop;
    stop.border.assign(text.size() + 1, 0);
    for (std::size_t n = 1, border = 0; n < text.size(); ++n) {
      while (border > 0 && text[n] != text[border]) border = stop.border[border];
      if (text[n] == text[border]) ++border;
      stop.border[n + 1] = border;
    }
    stop.text = std::move(text);
    stops_.push_back(std::move(stop));
  }
  buffer_.reserve(longest + 256);
}

void StopMatcher::advance(Stop& stop, char byte) {
  while (stop.matched > 0 && stop.text[stop.matched] != byte) {
    stop.matched = stop.border[stop.matched];
  }
  if (stop.text[stop.matched] == byte) ++stop.matched;
}

bool StopMatcher::push(std::string_view bytes) {
  buffer_.erase(0, visible_);
  for (const char byte : bytes) {
    buffer_ += byte;
    std::size_t complete = 0;
    for (Stop& stop : stops_) {
      advance(stop, byte);
      if (stop.matched == stop.text.size()) complete = std::max(complete, stop.matched);
    }
    if (complete > 0) {
      visible_ = buffer_.size() - complete;
      return true;
    }
  }
  std::size_t held = 0;
  for (const Stop& stop : stops_) held = std::max(held, stop.matched);
  visible_ = buffer_.size() - held;
  return false;
}

}  // namespace gander
