// Where vocabularies come from: the text file rwkv_vocab_*.txt, and the metadata of GGUF files.

#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/tokenizer/tokenizer.h"

namespace gander {
namespace {

// A tokenizer needs a table of this many strings at most; released models have 2^16 ids.
constexpr std::uint32_t kLargestId = (1U << 20) - 1;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& out, std::uint32_t code_point) {
  const auto tail = [&](int shift) {
    out += static_cast<char>(0x80U | ((code_point >> shift) & 0x3fU));
  };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xc0U | (code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xe0U | (code_point >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0U | (code_point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

enum class LiteralKind { Text, Bytes };

/// Undoes the escapes of a Python literal between its quotes. In text, \x80..\xff, \u and \U are
/// code points and become UTF-8; in bytes, \x is a raw byte. Bytes that are not escaped stay.
/// Throws Error that says what is wrong, without where.
std::string unescape_python(std::string_view escaped, LiteralKind kind) {
  std::string out;
  out.reserve(escaped.size());
  for (std::size_t i = 0; i < escaped.size(); ++i) {
    if (escaped[i] != '\\') {
      out += escaped[i];
      continue;
    }
    if (++i == escaped.size()) fail("a backslash with nothing after it");
    const char c = escaped[i];
    const auto hex = [&](std::size_t digits) {
      std::uint32_t value = 0;
      for (std::size_t d = 0; d < digits; ++d) {
        const int digit = ++i < escaped.size() ? hex_digit(escaped[i]) : -1;
        if (digit < 0) fail("\\{} without {} hexadecimal digits after it", c, digits);
        value = value << 4 | static_cast<std::uint32_t>(digit);
      }
      return value;
    };
    const bool text = kind == LiteralKind::Text;
    if (c == 'x') {
      const std::uint32_t value = hex(2);
      if (text) {
        append_utf8(out, value);
      } else {
        out += static_cast<char>(value);
      }
    } else if (text && (c == 'u' || c == 'U')) {
      const std::uint32_t code_point = hex(c == 'u' ? 4 : 8);
      if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point <= 0xdfff)) {
        fail("\\{} of U+{:04X}, which is no character", c, code_point);
      }
      append_utf8(out, code_point);
    } else {
      constexpr std::string_view kNames = "ntr\\'\"abfv0";
      constexpr std::string_view kValues("\n\t\r\\'\"\a\b\f\v\0", 11);
      const std::size_t index = kNames.find(c);
      if (index == std::string_view::npos) fail("the unknown escape \\{}", c);
      out += kValues[index];
    }
  }
  return out;
}

/// The bytes of a Python literal: '…', "…", b'…' or b"…".
std::string parse_literal(std::string_view literal) {
  const LiteralKind kind = literal.starts_with('b') ? LiteralKind::Bytes : LiteralKind::Text;
  if (kind == LiteralKind::Bytes) literal.remove_prefix(1);
  const char quote = literal.empty() ? '\0' : literal.front();
  if (literal.size() < 2 || (quote != '\'' && quote != '"') || literal.back() != quote) {
    fail("expected a literal in quotes ('…', \"…\", b'…' or b\"…\")");
  }
  return unescape_python(literal.substr(1, literal.size() - 2), kind);
}

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stopped != end) return std::nullopt;
  return value;
}

struct Entry {
  std::uint32_t id = 0;
  std::string bytes;
};

/// A line `id literal length`. The literal may hold spaces: the line is split at the first and the
/// last one. Throws Error without where.
Entry parse_line(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    fail("expected `id literal length`, separated by spaces");
  }
  Entry entry;
  const std::optional<std::uint32_t> id = parse_number(line.substr(0, first));
  if (!id || *id == 0 || *id > kLargestId) {
    fail("expected an id from 1 to {} at its beginning", kLargestId);
  }
  entry.id = *id;
  entry.bytes = parse_literal(line.substr(first + 1, last - first - 1));
  const std::optional<std::uint32_t> length = parse_number(line.substr(last + 1));
  if (!length) fail("expected a length in bytes at its end");
  if (entry.bytes.empty()) fail("token {} is empty", entry.id);
  if (entry.bytes.size() != *length) {
    fail("token {} has {} bytes, not {} as its length field says", entry.id, entry.bytes.size(),
         *length);
  }
  return entry;
}

const std::string* find_text(const TensorSource& source, const std::string& key) {
  const auto found = source.metadata.find(key);
  return found == source.metadata.end() ? nullptr : std::get_if<std::string>(&found->second);
}

}  // namespace

Tokenizer parse_vocabulary(std::string_view text, const std::string& path) {
  std::vector<std::string> tokens(1);
  std::size_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    try {
      Entry entry = parse_line(line);
      if (entry.id >= tokens.size()) tokens.resize(entry.id + 1);
      if (!tokens[entry.id].empty()) fail("token {} is defined twice", entry.id);
      tokens[entry.id] = std::move(entry.bytes);
    } catch (const Error& error) {
      fail("{}: line {}: {}", path, line_number, error.what());
    }
  }
  try {
    return Tokenizer(std::move(tokens));
  } catch (const Error& error) {
    fail("{}: {}", path, error.what());
  }
}

Tokenizer read_vocabulary(const std::string& path) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  return parse_vocabulary({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

std::optional<Tokenizer> tokenizer_of(const TensorSource& source) {
  const auto model = source.metadata.find("tokenizer.ggml.model");
  const auto list = source.metadata.find("tokenizer.ggml.tokens");
  if (model == source.metadata.end() && list == source.metadata.end()) return std::nullopt;
  const std::string* kind = find_text(source, "tokenizer.ggml.model");
  // A model converted without a vocabulary says so: "no_vocab" or "none".
  if (kind != nullptr && (*kind == "no_vocab" || *kind == "none")) return std::nullopt;
  if (kind == nullptr || *kind != "rwkv") {
    fail("{}: its tokenizer (tokenizer.ggml.model) is {}, not \"rwkv\"; give --vocab FILE",
         source.path, kind == nullptr ? "not named" : fmt::format("\"{}\"", escape_token(*kind)));
  }
  const auto* escaped = list == source.metadata.end()
                            ? nullptr
                            : std::get_if<std::vector<std::string>>(&list->second);
  if (escaped == nullptr) {
    fail("{}: tokenizer.ggml.tokens is missing or not a list of strings", source.path);
  }
  if (escaped->size() > kLargestId + std::size_t{1}) {
    fail("{}: tokenizer.ggml.tokens has {} entries; at most {} are supported", source.path,
         escaped->size(), kLargestId + 1);
  }
  std::vector<std::string> tokens(escaped->size());
  for (std::size_t id = 1; id < escaped->size(); ++id) {  // 0 is "<s>", end of document
    const std::string& token = (*escaped)[id];
    if (token == fmt::format("[PAD{}]", id)) continue;  // the converter's name of an unused id
    try {
      tokens[id] = unescape_token(token);
    } catch (const Error& error) {
      fail("{}: tokenizer.ggml.tokens[{}]: {}", source.path, id, error.what());
    }
  }
  try {
    return Tokenizer(std::move(tokens));
  } catch (const Error& error) {
    fail("{}: tokenizer.ggml.tokens: {}", source.path, error.what());
  }
}

std::string escape_token(std::string_view bytes) {
  // Python's repr prefers '…' and takes "…" when that saves escaping: then ' stays as it is.
  const bool escape_quote = bytes.find('"') != std::string_view::npos;
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\'' && escape_quote) {
      out += "\\'";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (byte < 0x20 || byte >= 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescape_token(std::string_view escaped) {
  return unescape_python(escaped, LiteralKind::Bytes);
}

}  // namespace gander
