#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error.h"

namespace gander {

namespace {

// What is mapped now. Dropping pages of anything else would lose its contents.
class Mappings {
 public:
  void add(std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    all_.push_back(bytes);
  }
  void remove(const std::byte* data) {
    const std::lock_guard lock(mutex_);
    std::erase_if(all_, [&](std::span<const std::byte> bytes) { return bytes.data() == data; });
  }
  void release(std::span<const std::byte> bytes) {
    const auto page = static_cast<std::ptrdiff_t>(::sysconf(_SC_PAGESIZE));
    const std::lock_guard lock(mutex_);
    for (const std::span<const std::byte> mapped : all_) {
      const std::byte* const begin = std::max(bytes.data(), mapped.data());
      const std::byte* const end =
          std::min(bytes.data() + bytes.size(), mapped.data() + mapped.size());
      if (begin >= end) continue;
      // Mappings begin at a page, so whole pages of this one are meant.
      const std::byte* const first = mapped.data() + (begin - mapped.data()) / page * page;
      ::madvise(const_cast<std::byte*>(first), static_cast<std::size_t>(end - first),
                MADV_DONTNEED);
    }
  }
  std::span<const std::byte> around(const std::byte* address) {
    const std::lock_guard lock(mutex_);
    const std::less_equal<> before;
    for (const std::span<const std::byte> mapped : all_) {
      if (before(mapped.data(), address) && !before(mapped.data() + mapped.size(), address)) {
        return mapped;
      }
    }
    return {};
  }

 private:
  std::mutex mutex_;
  std::vector<std::span<const std::byte>> all_;
};

Mappings& mappings() {
  static Mappings all;
  return all;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail("cannot open {}: {}", path, std::strerror(errno));
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    const int reason = errno;
    ::close(descriptor);
    fail("cannot read {}: {}", path, std::strerror(reason));
  }
  if (!S_ISREG(status.st_mode) || status.st_size == 0) {
    ::close(descriptor);
    fail("{} is {}", path,
         S_ISDIR(status.st_mode)   ? "a folder, not a file"
         : S_ISREG(status.st_mode) ? "empty"
                                   : "not a regular file");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
  const int reason = errno;
  ::close(descriptor);
  if (mapping == MAP_FAILED) fail("cannot map {}: {}", path, std::strerror(reason));
  data_ = static_cast<const std::byte*>(mapping);
  mappings().add(bytes());
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  mappings().remove(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release(std::span<const std::byte> bytes) {
  mappings().release(bytes);
}

std::span<const std::byte> MappedFile::around(const std::byte* address) {
  return mappings().around(address);
}

}  // namespace gander
