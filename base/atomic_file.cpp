#include "base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "base/error.h"

namespace gander {
namespace {

constexpr int kAttempts = 100;  // at a name that nobody has

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  // Renaming would put a file in the place of a device, a pipe or a link.
  std::error_code ignored;
  const std::filesystem::file_status existing = std::filesystem::symlink_status(path_, ignored);
  if (std::filesystem::exists(existing) && !std::filesystem::is_regular_file(existing)) {
    if (!std::filesystem::is_symlink(existing)) {
      fail("cannot write {}: it is {}", path_,
           std::filesystem::is_directory(existing) ? "a folder" : "not a regular file");
    }
    path_ = std::filesystem::weakly_canonical(path_, ignored).string();
    if (ignored) fail("cannot write {}: {}", path_, ignored.message());
    if (std::filesystem::exists(path_, ignored) &&
        !std::filesystem::is_regular_file(path_, ignored)) {
      fail("cannot write {}: it is not a regular file", path_);
    }
  }
  // Not mkstemp, whose files are private: this one is to follow the user's umask, which nobody can
  // ask for without changing it for all threads.
  std::random_device random;
  for (int attempt = 0; descriptor_ < 0 && attempt < kAttempts; ++attempt) {
    temporary_path_ = fmt::format("{}.{:06x}", path_, random() & 0xffffffU);
    descriptor_ = ::open(temporary_path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) break;
  }
  if (descriptor_ < 0) fail("cannot create {}: {}", path_, std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_path_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("cannot write {}: {}", path_, std::strerror(errno));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit(Sync sync) {
  if ((sync == Sync::Yes && ::fsync(descriptor_) != 0) ||
      ::rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    fail("cannot write {}: {}", path_, std::strerror(errno));
  }
  ::close(std::exchange(descriptor_, -1));
  if (sync == Sync::No) return;
  // The new name itself is durable once the folder is; a folder that cannot be synced is no error.
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const int parent = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (parent >= 0) {
    ::fsync(parent);
    ::close(parent);
  }
}

}  // namespace gander
