#pragma once

#include <string>
#include <string_view>

namespace gander {

/// All bytes of a file, or of stdin for "-". Throws Error with the system's reason.
std::string read_input(const std::string& path);

/// Offset of the first byte that is not UTF-8; npos when all is valid.
std::size_t find_invalid_utf8(std::string_view text);

/// Throws Error naming the offset when `text` is not valid UTF-8. `what` begins the message.
void require_utf8(std::string_view text, std::string_view what);

}  // namespace gander
