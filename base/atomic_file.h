#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace gander {

/// A file that appears whole or not at all: bytes go to a temporary name in the same folder, and
/// commit() makes them durable and renames. Without commit() (an error, an exception) the temporary
/// file is removed and whatever stood at `path` is untouched. A link is followed; devices, pipes
/// and folders are refused.
class AtomicFile {
 public:
  /// Creates the temporary file. Throws Error (with the system's reason) on failure.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes. Throws Error, for example on a full disk.
  void write(std::span<const std::byte> bytes);
  /// Bytes written so far.
  std::uint64_t size() const { return size_; }
  /// Whether commit() waits until the bytes are on the disk, so that they outlive a power cut.
  enum class Sync { Yes, No };
  /// Renames to `path`. Throws Error.
  void commit(Sync sync = Sync::Yes);

 private:
  std::string path_;
  std::string temporary_path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace gander
