#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace gander {

/// A whole file mapped read-only into memory; unmapped on destruction.
/// A file that shrinks while it is mapped is outside what can be handled: reading it then raises
/// SIGBUS, as with every program that maps files.
class MappedFile {
 public:
  /// Maps `path`. Throws Error when it is absent, unreadable, a folder, a device, or empty.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Gives back the memory behind those of `bytes` that lie in a mapped file, by whole pages; bytes
  /// elsewhere are left alone. They are read from the file again when they are touched.
  static void release(std::span<const std::byte> bytes);

  /// The mapped file that `address` lies in, from its first byte to its last; empty when it lies in
  /// none. A mapping begins at a page, and the rest of its last page can be read.
  static std::span<const std::byte> around(const std::byte* address);

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace gander
