#include "engine/serving/named_states.h"

#include <set>
#include <utility>

#include "base/error.h"
#include "base/memory.h"
#include "engine/session_file.h"

namespace gander {
namespace {

constexpr std::size_t kLongestName = 256;
constexpr std::uint64_t kNameBytes = 128;  // of a map's node, beside the letters

std::uint64_t bytes_of(const SavedSequence& sequence) {
  return sequence.tokens.size() * sizeof(TokenId) + sequence.pending.size();
}

}  // namespace

NamedStates::NamedStates(const Model& model, std::uint64_t max_bytes)
    : model_(model), max_bytes_(max_bytes) {}

std::shared_ptr<const SavedSequence> NamedStates::find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = states_.find(name);
  return found == states_.end() ? nullptr : found->second;
}

void NamedStates::put(const std::string& name, std::shared_ptr<const SavedSequence> sequence) {
  if (name.empty() || name.size() > kLongestName) {
    fail("a state's name has {} bytes; it must have from 1 to {}", name.size(), kLongestName);
  }
  if (sequence == nullptr) fail("there is no state to be kept as {}", name);
  const std::lock_guard lock(mutex_);
  std::swap(states_[name], sequence);
  const std::uint64_t bytes = bytes_locked();
  if (bytes <= max_bytes_) return;
  if (sequence == nullptr) {
    states_.erase(name);
  } else {
    states_[name] = std::move(sequence);
  }
  refuse(name, bytes);
}

void NamedStates::require_room(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const std::uint64_t bytes =
      bytes_locked() + State::bytes(model_.config()) + name.size() + kNameBytes;
  if (bytes > max_bytes_) refuse(name, bytes);
}

void NamedStates::refuse(const std::string& name, std::uint64_t bytes) const {
  throw StatesFull(fmt::format(
      "there is no room for the state {}: with it the named states would have {}, of {}; delete "
      "some",
      name, bytes_text(bytes), bytes_text(max_bytes_)));
}

void NamedStates::fork(const std::string& from, const std::string& to) {
  std::shared_ptr<const SavedSequence> sequence = find(from);
  if (sequence == nullptr) fail("there is no state called {}", from);
  put(to, std::move(sequence));
}

bool NamedStates::erase(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return states_.erase(name) > 0;
}

std::vector<NamedStates::Entry> NamedStates::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Entry> entries;
  for (const auto& [name, sequence] : states_) {
    const std::uint64_t state = sequence->state ? sequence->state->values().size_bytes() : 0;
    entries.push_back({name, sequence->tokens.size(), bytes_of(*sequence) + state});
  }
  return entries;
}

std::uint64_t NamedStates::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_locked();
}

std::uint64_t NamedStates::bytes_locked() const {
  std::set<const void*> counted;  // what forks share counts once
  std::uint64_t bytes = 0;
  for (const auto& [name, sequence] : states_) {
    bytes += name.size() + kNameBytes;
    if (counted.insert(sequence.get()).second) bytes += bytes_of(*sequence);
    const State* state = sequence->state.get();
    if (state != nullptr && counted.insert(state).second) bytes += state->values().size_bytes();
  }
  return bytes;
}

std::string NamedStates::export_bytes(const std::string& name) const {
  const std::shared_ptr<const SavedSequence> sequence = find(name);
  if (sequence == nullptr) fail("there is no state called {}", name);
  const State beginning(sequence->state ? Config{} : model_.config());
  return state_file_bytes(sequence->state ? *sequence->state : beginning, model_.fingerprint,
                          sequence->tokens, session_note(sequence->pending, ""));
}

void NamedStates::import_bytes(const std::string& name, std::string_view bytes) {
  Session::Snapshot snapshot =
      session_of(parse_state(std::as_bytes(std::span(bytes)), name), model_, name).snapshot;
  put(name, std::make_shared<const SavedSequence>(
                SavedSequence{std::make_shared<const State>(std::move(snapshot.state)),
                              std::move(snapshot.tokens), std::move(snapshot.pending)}));
}

}  // namespace gander
