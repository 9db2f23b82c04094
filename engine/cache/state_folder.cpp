#include "engine/cache/state_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <tuple>

#include "base/error.h"

namespace gander {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".state";
constexpr std::size_t kTemporarySuffix = 7;  // ".XXXXXX", of AtomicFile

std::vector<std::byte> read_file(const std::string& path, std::uint64_t expected_size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (descriptor < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      throw std::system_error(errno, std::generic_category(), path);
    }
    fail("cannot open {}: {}", path, std::strerror(errno));
  }
  std::vector<std::byte> bytes;
  std::size_t size = 0;
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 &&
      static_cast<std::uint64_t>(status.st_size) == expected_size) {
    bytes.resize(expected_size);
    // Not mapped: a bad block of the disk is then an error and not a signal.
    while (size < bytes.size()) {
      const ssize_t count = ::read(descriptor, bytes.data() + size, bytes.size() - size);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      size += static_cast<std::size_t>(count);
    }
  }
  ::close(descriptor);
  if (size != expected_size) fail("{} has not the {} bytes it should have", path, expected_size);
  return bytes;
}

}  // namespace

std::string StateKey::file_name(std::uint64_t fingerprint) const {
  return fmt::format("{:016x}-{:016x}-{:x}-{:016x}-{:x}-{}{}", fingerprint, tokens.hash,
                     tokens.size, text.hash, text.size, is_turn ? 't' : 's', kSuffix);
}

std::optional<StateKey> StateKey::parse(const std::string& name, std::uint64_t& fingerprint) {
  StateKey key;
  char kind = 0;
  // What it accepts is compared with what would be written.
  if (std::sscanf(name.c_str(),
                  "%16" SCNx64 "-%16" SCNx64 "-%16" SCNx64 "-%16" SCNx64 "-%16" SCNx64 "-%c",
                  &fingerprint, &key.tokens.hash, &key.tokens.size, &key.text.hash, &key.text.size,
                  &kind) != 6) {
    return std::nullopt;
  }
  key.is_turn = kind == 't';
  if (key.file_name(fingerprint) != name) return std::nullopt;
  return key;
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    fail("cannot remove {}: {}", path, std::strerror(errno));
  }
}

StateFolder::StateFolder(const std::string& path, std::uint64_t limit, std::uint64_t fingerprint)
    : path_(path), limit_(limit), fingerprint_(fingerprint) {
  std::error_code error;
  if (fs::create_directories(path, error)) {  // what people wrote can be read from states
    fs::permissions(path, fs::perms::owner_all, error);
  }
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0) {
    fail("cannot open the folder {}: {}", path, error ? error.message() : std::strerror(errno));
  }
  try {
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      fail("cannot use the folder {}: {}", path,
           errno == EWOULDBLOCK ? "another process keeps its states there" : std::strerror(errno));
    }
    list();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

StateFolder::~StateFolder() {
  ::close(descriptor_);
}

void StateFolder::list() {
  struct Found {
    File file;
    fs::file_time_type time;
  };
  std::vector<Found> found;
  std::error_code error;
  for (fs::directory_iterator at(path_, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (!at->is_regular_file(ignored) || at->is_symlink(ignored)) continue;
    const std::string name = at->path().filename().string();
    std::uint64_t fingerprint = 0;
    if (StateKey::parse(name, fingerprint)) {
      Found one{{name, at->file_size(ignored)}, {}};
      if (!ignored) one.time = at->last_write_time(ignored);
      if (!ignored) found.push_back(std::move(one));
    } else if (name.size() > kTemporarySuffix &&
               StateKey::parse(name.substr(0, name.size() - kTemporarySuffix), fingerprint)) {
      fs::remove(at->path(), ignored);  // a process was killed while it wrote
    }
  }
  if (error) fail("cannot read the folder {}: {}", path_, error.message());
  std::ranges::sort(found, {}, [](const Found& one) { return std::tie(one.time, one.file.name); });
  for (const Found& one : found) add(one.file.name, one.file.size);
  std::vector<std::string> names;
  make_room(0, names);
  for (const std::string& name : names) fs::remove(path(name), error);
}

std::vector<StateKey> StateFolder::keys() const {
  std::vector<StateKey> keys;
  for (const File& file : files_) {
    std::uint64_t fingerprint = 0;
    const std::optional<StateKey> key = StateKey::parse(file.name, fingerprint);
    if (key && fingerprint == fingerprint_) keys.push_back(*key);
  }
  return keys;
}

bool StateFolder::make_room(std::uint64_t size, std::vector<std::string>& names) {
  if (size > limit_) return false;
  while (bytes_ > limit_ - size) {
    names.push_back(files_.front().name);
    bytes_ -= files_.front().size;
    by_name_.erase(files_.front().name);
    files_.pop_front();
  }
  return true;
}

void StateFolder::add(const std::string& name, std::uint64_t size) {
  by_name_[name] = files_.insert(files_.end(), {name, size});
  bytes_ += size;
}

void StateFolder::touch(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return;
  files_.splice(files_.end(), files_, found->second);
  // The system's own stamps are milliseconds apart. On a read-only disk the old one stays.
  timespec times[2];
  ::clock_gettime(CLOCK_REALTIME, &times[0]);
  times[1] = times[0];
  ::utimensat(descriptor_, name.c_str(), times, 0);
}

void StateFolder::remove(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return;
  bytes_ -= found->second->size;
  files_.erase(found->second);
  by_name_.erase(found);
  ::unlinkat(descriptor_, name.c_str(), 0);  // one that stays is listed again by the next process
}

SavedState StateFolder::read(const StateKey& key, const Config& config) const {
  const std::string file = path(key.file_name(fingerprint_));
  // The size first: a name may promise what no memory holds.
  if (key.tokens.size > limit_ / sizeof(TokenId)) fail("{} is not what its name says", file);
  SavedState saved =
      parse_state(read_file(file, state_file_size(config, key.tokens.size, 0)), file);
  if (saved.fingerprint != fingerprint_ || !saved.state.fits(config) ||
      saved.tokens.size() != key.tokens.size ||
      prefix_hashes(saved.tokens).back() != key.tokens.hash) {
    fail("{} is not what its name says", file);
  }
  return saved;
}

}  // namespace gander
