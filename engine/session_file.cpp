// Sessions on disk: a state file whose note is JSON with the keys
//   session  1, the version
//   pending  the pending bytes in hexadecimal: they need not be valid UTF-8
//   note     what the application adds

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "engine/session.h"
#include "model/state.h"

namespace gander {
namespace {

using nlohmann::json;

std::string to_hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15U];
  }
  return hex;
}

bool from_hex(std::string_view hex, std::string& bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (hex.size() % 2 != 0) return false;
  bytes.clear();
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const std::size_t high = kDigits.find(hex[i]);
    const std::size_t low = kDigits.find(hex[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return false;
    bytes += static_cast<char>(high << 4 | low);
  }
  return true;
}

}  // namespace

void save_session(const std::string& path, const Session& session, const std::string& note) {
  Session::Snapshot snapshot = session.snapshot();
  const json content = {{"session", 1}, {"pending", to_hex(snapshot.pending)}, {"note", note}};
  SavedState saved;
  saved.state = std::move(snapshot.state);
  saved.tokens = std::move(snapshot.tokens);
  saved.fingerprint = session.model().fingerprint;
  saved.note = content.dump(-1, ' ', false, json::error_handler_t::replace);
  write_state(path, saved);
}

std::string load_session(const std::string& path, Session& session) {
  const Model& model = session.model();
  SavedState saved = read_state(path, model.config());
  if (saved.fingerprint != 0 && saved.fingerprint != model.fingerprint) {
    fail("{} was saved with another model or vocabulary than {}", path, model.path);
  }
  for (const TokenId token : saved.tokens) {
    if (token >= model.config().vocab_size) {
      fail("{} is damaged: it has a token {}, the model only {}", path, token,
           model.config().vocab_size);
    }
  }
  Session::Snapshot snapshot{std::move(saved.state), "", std::move(saved.tokens)};
  std::string note;
  if (!saved.note.empty()) {
    const json content = json::parse(saved.note, nullptr, false);
    const auto text_of = [&](const char* key) -> const std::string* {
      const auto found = content.find(key);
      return found == content.end() ? nullptr : found->get_ptr<const std::string*>();
    };
    const bool known = content.is_object() && content.value("session", json()) == json(1);
    const std::string* pending = known ? text_of("pending") : nullptr;
    const std::string* inner = known ? text_of("note") : nullptr;
    if (pending == nullptr || inner == nullptr || !from_hex(*pending, snapshot.pending)) {
      fail(
          "{}: its note is not one that gander wrote, so the text that waits to be read is unknown",
          path);
    }
    note = *inner;
  }
  session.restore(snapshot);
  return note;
}

}  // namespace gander
