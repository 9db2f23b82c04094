#pragma once

#include <algorithm>
#include <string_view>

namespace gander::gpu::cuda {

/// Takes a line, with its end, from the front of `text`, which is not empty.
inline std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end);
  return line;
}

}  // namespace gander::gpu::cuda
