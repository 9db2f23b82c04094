#pragma once

#include <cstdint>
#include <string_view>

namespace gander {

/// The name of an opcode that the restricted pickle machine does not know; "unknown" for a byte
/// that is no opcode.
std::string_view foreign_opcode_name(std::uint8_t opcode);

}  // namespace gander
