// Sessions on disk: a state file whose note is JSON with the keys
//   session  1, the version
//   pending  the pending bytes in hexadecimal: they need not be valid UTF-8
//   note     what the application adds

#include "engine/session_file.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

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

std::string session_note(std::string_view pending, const std::string& note) {
  const json content = {{"session", 1}, {"pending", to_hex(pending)}, {"note", note}};
  return content.dump(-1, ' ', false, json::error_handler_t::replace);
}

SavedSession session_of(SavedState saved, const Model& model, const std::string& path) {
  if (!saved.state.fits(model.config())) {
    fail("{} is the state of a model of another shape than {}", path, model.path);
  }
  if (saved.fingerprint != 0 && saved.fingerprint != model.fingerprint) {
    fail("{} was saved with another model or vocabulary than {}", path, model.path);
  }
  for (const TokenId token : saved.tokens) {
    if (token >= model.config().vocab_size) {
      fail("{} is damaged: it has a token {}, the model only {}", path, token,
           model.config().vocab_size);
    }
  }
  SavedSession session{{std::move(saved.state), "", std::move(saved.tokens)}, ""};
  if (saved.note.empty()) return session;
  const json content = json::parse(saved.note, nullptr, false);
  const auto text_of = [&](const char* key) -> const std::string* {
    const auto found = content.find(key);
    return found == content.end() ? nullptr : found->get_ptr<const std::string*>();
  };
  const bool known = content.is_object() && content.value("session", json()) == json(1);
  const std::string* pending = known ? text_of("pending") : nullptr;
  const std::string* note = known ? text_of("note") : nullptr;
  if (pending == nullptr || note == nullptr || !from_hex(*pending, session.snapshot.pending)) {
    fail("{}: its note is not one that gander wrote, so the text that waits to be read is unknown",
         path);
  }
  session.note = *note;
  return session;
}

void save_session(const std::string& path, const Session& session, const std::string& note) {
  const Session::Snapshot snapshot = session.snapshot();
  write_state(path, snapshot.state, session.model().fingerprint, snapshot.tokens,
              session_note(snapshot.pending, note));
}

std::string load_session(const std::string& path, Session& session) {
  const Model& model = session.model();
  SavedSession saved = session_of(read_state(path, model.config()), model, path);
  session.restore(saved.snapshot);
  return std::move(saved.note);
}

}  // namespace gander
