#pragma once

#include <string>
#include <string_view>

#include "engine/session.h"
#include "model/state.h"

namespace gander {

/// The note of a state file that holds a session: its pending text, and what the application adds.
std::string session_note(std::string_view pending, const std::string& note);

/// A session as it lies in a state file.
struct SavedSession {
  Session::Snapshot snapshot;
  std::string note;  ///< the application's
};

/// Takes it from a state file's content, whose note is session_note's, or none. Throws Error when
/// it is of another model or damaged; `path` is for messages.
SavedSession session_of(SavedState saved, const Model& model, const std::string& path);

}  // namespace gander
