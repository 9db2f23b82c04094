#include "model/checkpoint/pickle_opcodes.h"

#include <algorithm>

namespace gander {

std::string_view foreign_opcode_name(std::uint8_t opcode) {
  struct Row {
    std::uint8_t opcode;
    std::string_view name;
  };
  constexpr Row kNames[] = {
      {'0', "POP"},          {'1', "POP_MARK"},
      {'2', "DUP"},          {'F', "FLOAT"},
      {'G', "BINFLOAT"},     {'I', "INT"},
      {'L', "LONG"},         {'N', "NONE"},
      {'P', "PERSID"},       {'S', "STRING"},
      {'T', "BINSTRING"},    {'U', "SHORT_BINSTRING"},
      {'V', "UNICODE"},      {'a', "APPEND"},
      {'d', "DICT"},         {'e', "APPENDS"},
      {'g', "GET"},          {'i', "INST"},
      {'l', "LIST"},         {'o', "OBJ"},
      {'p', "PUT"},          {']', "EMPTY_LIST"},
      {'B', "BINBYTES"},     {'C', "SHORT_BINBYTES"},
      {0x81, "NEWOBJ"},      {0x82, "EXT1"},
      {0x83, "EXT2"},        {0x84, "EXT4"},
      {0x8b, "LONG4"},       {0x8d, "BINUNICODE8"},
      {0x8e, "BINBYTES8"},   {0x8f, "EMPTY_SET"},
      {0x90, "ADDITEMS"},    {0x91, "FROZENSET"},
      {0x92, "NEWOBJ_EX"},   {0x96, "BYTEARRAY8"},
      {0x97, "NEXT_BUFFER"}, {0x98, "READONLY_BUFFER"},
  };
  const auto* const row = std::ranges::find(kNames, opcode, &Row::opcode);
  return row == std::end(kNames) ? "unknown" : row->name;
}

}  // namespace gander
