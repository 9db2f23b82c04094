#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/model.h"
#include "engine/serving/request.h"

namespace gander {

/// There is no more room for a state.
class StatesFull : public Error {
 public:
  using Error::Error;
};

/// Sequences kept under names: sessions that live between requests. Thread-safe.
class NamedStates {
 public:
  struct Entry {
    std::string name;
    std::size_t tokens = 0;  ///< read
    std::uint64_t bytes = 0;
  };

  /// At most `max_bytes` in all. A fork shares the state, and takes but the bytes of a name.
  NamedStates(const Model& model, std::uint64_t max_bytes);

  /// Null when there is none.
  std::shared_ptr<const SavedSequence> find(const std::string& name) const;
  /// Throws StatesFull when a new state would find no room under the name.
  void require_room(const std::string& name) const;
  /// Keeps or replaces it. Throws Error for a name that is empty or longer than 256 bytes, and
  /// StatesFull when there is no more room.
  void put(const std::string& name, std::shared_ptr<const SavedSequence> sequence);
  /// Keeps the sequence under another name too. Throws Error when there is none.
  void fork(const std::string& from, const std::string& to);
  /// False when there is none.
  bool erase(const std::string& name);
  std::vector<Entry> list() const;  ///< by name
  std::uint64_t bytes() const;

  /// A state file (docs/formats.md) with the sequence; and back under a name. import_bytes() throws
  /// Error when the file is damaged or of another model; nothing is changed then.
  std::string export_bytes(const std::string& name) const;
  void import_bytes(const std::string& name, std::string_view bytes);

 private:
  std::uint64_t bytes_locked() const;

  [[noreturn]] void refuse(const std::string& name, std::uint64_t bytes) const;

  const Model& model_;
  std::uint64_t max_bytes_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const SavedSequence>> states_;
};

}  // namespace gander
