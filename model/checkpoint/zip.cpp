#include "model/checkpoint/zip.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <unordered_set>

#include "base/error.h"
#include "model/checkpoint/byte_reader.h"

namespace gander {

namespace {

constexpr std::string_view kLocalMagic = "PK\x03\x04";
constexpr std::string_view kCentralMagic = "PK\x01\x02";
constexpr std::string_view kEndMagic = "PK\x05\x06";
constexpr std::string_view kZip64EndMagic = "PK\x06\x06";
constexpr std::string_view kZip64LocatorMagic = "PK\x06\x07";
constexpr std::uint64_t kEndSize = 22;
constexpr std::uint64_t kZip64LocatorSize = 20;
constexpr std::uint64_t kLongestComment = 0xffff;
constexpr std::uint64_t kCentralSize = 46;  // without name, extra field and comment
constexpr std::uint16_t kNone16 = 0xffff;   // the value is in a zip64 record
constexpr std::uint32_t kNone32 = 0xffffffff;
constexpr std::uint16_t kEncrypted = 1 << 0;
constexpr std::uint16_t kSizesFollowData = 1 << 3;

struct Directory {
  std::uint64_t entries = 0, size = 0, offset = 0;
};

struct CentralEntry {
  std::string name;
  std::uint16_t flags = 0, method = 0;
  std::uint64_t stored_size = 0, size = 0, offset = 0;
};

class ZipReader {
 public:
  ZipReader(std::span<const std::byte> bytes, const std::string& path)
      : bytes_(bytes), path_(path) {}

  std::vector<ZipEntry> read();

 private:
  ByteReader at(std::uint64_t offset, std::string_view magic, std::string_view what) const;
  std::uint64_t find_end() const;
  Directory find_directory() const;
  Directory zip64_directory(std::uint64_t end) const;
  CentralEntry central_entry(ByteReader& reader) const;
  void read_zip64_field(CentralEntry& entry, std::span<const std::byte> extra) const;
  std::span<const std::byte> locate(const CentralEntry& entry) const;

  std::span<const std::byte> bytes_;
  const std::string& path_;
};

/// A reader behind the magic number of a record.
ByteReader ZipReader::at(std::uint64_t offset, std::string_view magic,
                         std::string_view what) const {
  if (offset > bytes_.size()) {
    fail("{}: {} would lie at offset {}, beyond the end of the file", path_, what, offset);
  }
  ByteReader reader(bytes_, path_, offset);
  if (as_text(reader.take(magic.size(), what)) != magic) {
    fail("{}: there is no {} at offset {}; the file is damaged", path_, what, offset);
  }
  return reader;
}

/// The end record: the last one whose comment fills the rest of the file.
std::uint64_t ZipReader::find_end() const {
  const std::string_view text = as_text(bytes_);
  if (text.size() >= kEndSize) {
    const std::uint64_t last = text.size() - kEndSize;
    for (std::uint64_t comment = 0; comment <= std::min(last, kLongestComment); ++comment) {
      const std::uint64_t offset = last - comment;
      if (!text.substr(offset).starts_with(kEndMagic)) continue;
      ByteReader reader(bytes_, path_, offset + kEndSize - sizeof(std::uint16_t));
      if (reader.read<std::uint16_t>("a comment length") == comment) return offset;
    }
  }
  fail("{}: a zip archive without its end record; the file is cut short, download it again", path_);
}

Directory ZipReader::zip64_directory(std::uint64_t end) const {
  constexpr std::string_view kWhat = "zip64 end record";
  if (end < kZip64LocatorSize) fail("{}: there is no {} before the end record", path_, kWhat);
  ByteReader locator = at(end - kZip64LocatorSize, kZip64LocatorMagic, "zip64 locator");
  locator.take(4, kWhat);  // disk
  ByteReader record = at(locator.read<std::uint64_t>(kWhat), kZip64EndMagic, kWhat);
  record.take(8 + 2 + 2 + 4 + 4 + 8, kWhat);  // size, versions, disks, entries on this disk
  Directory directory;
  directory.entries = record.read<std::uint64_t>(kWhat);
  directory.size = record.read<std::uint64_t>(kWhat);
  directory.offset = record.read<std::uint64_t>(kWhat);
  return directory;
}

Directory ZipReader::find_directory() const {
  const std::uint64_t end = find_end();
  ByteReader reader = at(end, kEndMagic, "end record");
  reader.take(2 + 2 + 2, "end record");  // disks, entries on this disk
  Directory directory;
  directory.entries = reader.read<std::uint16_t>("end record");
  directory.size = reader.read<std::uint32_t>("end record");
  directory.offset = reader.read<std::uint32_t>("end record");
  if (directory.entries == kNone16 || directory.size == kNone32 || directory.offset == kNone32) {
    directory = zip64_directory(end);
  }
  if (directory.offset > bytes_.size() || directory.size > bytes_.size() - directory.offset ||
      directory.entries > directory.size / kCentralSize) {
    fail("{}: a central directory of {} entries and {} bytes at offset {} does not fit the file",
         path_, directory.entries, directory.size, directory.offset);
  }
  return directory;
}

/// Replaces the sizes and the offset that did not fit 32 bits, which come in this order.
void ZipReader::read_zip64_field(CentralEntry& entry, std::span<const std::byte> extra) const {
  constexpr std::uint16_t kZip64Field = 1;
  ByteReader reader(extra, path_);
  while (reader.remaining() >= 4) {
    const auto id = reader.read<std::uint16_t>("an extra field");
    const auto size = reader.read<std::uint16_t>("an extra field");
    const auto field = reader.take(size, "an extra field");
    if (id != kZip64Field) continue;
    ByteReader values(field, path_);
    for (std::uint64_t* value : {&entry.size, &entry.stored_size, &entry.offset}) {
      if (*value == kNone32) *value = values.read<std::uint64_t>("a zip64 field");
    }
    return;
  }
}

CentralEntry ZipReader::central_entry(ByteReader& reader) const {
  constexpr std::string_view kWhat = "central directory entry";
  const std::uint64_t offset = reader.offset();
  if (as_text(reader.take(kCentralMagic.size(), kWhat)) != kCentralMagic) {
    fail("{}: there is no {} at offset {}; the file is damaged", path_, kWhat, offset);
  }
  CentralEntry entry;
  reader.take(2 + 2, kWhat);  // versions
  entry.flags = reader.read<std::uint16_t>(kWhat);
  entry.method = reader.read<std::uint16_t>(kWhat);
  reader.take(2 + 2 + 4, kWhat);  // time, date, checksum
  entry.stored_size = reader.read<std::uint32_t>(kWhat);
  entry.size = reader.read<std::uint32_t>(kWhat);
  const auto name_size = reader.read<std::uint16_t>(kWhat);
  const auto extra_size = reader.read<std::uint16_t>(kWhat);
  const auto comment_size = reader.read<std::uint16_t>(kWhat);
  reader.take(2 + 2 + 4, kWhat);  // disk, attributes
  entry.offset = reader.read<std::uint32_t>(kWhat);
  entry.name = as_text(reader.take(name_size, kWhat));
  read_zip64_field(entry, reader.take(extra_size, kWhat));
  reader.take(comment_size, kWhat);
  return entry;
}

/// The data of an entry, behind its local header, which must agree with the directory.
std::span<const std::byte> ZipReader::locate(const CentralEntry& entry) const {
  if (!is_plain_name(entry.name)) {
    fail("{}: {} is not an entry name", path_, quote(entry.name));
  }
  if ((entry.flags & kEncrypted) != 0) fail("{}: {} is encrypted", path_, entry.name);
  if (entry.method != 0) {
    fail(
        "{}: {} is compressed (method {}); torch.save stores its entries, so this archive was "
        "packed by something else",
        path_, entry.name, entry.method);
  }
  if (entry.size != entry.stored_size) {
    fail("{}: {} is stored, but its two sizes differ: {} and {}", path_, entry.name, entry.size,
         entry.stored_size);
  }
  ByteReader reader = at(entry.offset, kLocalMagic, "local header");
  reader.take(2, entry.name);  // version
  const auto flags = reader.read<std::uint16_t>(entry.name);
  const auto method = reader.read<std::uint16_t>(entry.name);
  reader.take(2 + 2 + 4, entry.name);  // time, date, checksum
  const auto stored_size = reader.read<std::uint32_t>(entry.name);
  const auto size = reader.read<std::uint32_t>(entry.name);
  const auto name_size = reader.read<std::uint16_t>(entry.name);
  const auto extra_size = reader.read<std::uint16_t>(entry.name);
  const auto name = as_text(reader.take(name_size, entry.name));
  reader.take(extra_size, entry.name);
  // With this flag the sizes stand behind the data, and here may be zero.
  const bool knows_size = (flags & kSizesFollowData) == 0;
  const auto agrees = [&](std::uint32_t local) {
    return !knows_size || local == kNone32 || local == entry.size;
  };
  if (name != entry.name || method != entry.method || !agrees(stored_size) || !agrees(size)) {
    fail("{}: the local header of {} at offset {} contradicts the directory", path_, entry.name,
         entry.offset);
  }
  return reader.take(entry.size, entry.name);
}

std::vector<ZipEntry> ZipReader::read() {
  const Directory directory = find_directory();
  ByteReader reader(bytes_.first(directory.offset + directory.size), path_, directory.offset);
  std::vector<ZipEntry> entries;
  std::unordered_set<std::string> names;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places;  // header begin, data end
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    CentralEntry entry = central_entry(reader);
    const auto data = locate(entry);
    if (!names.insert(entry.name).second) fail("{}: {} occurs twice", path_, entry.name);
    const auto begin = static_cast<std::uint64_t>(data.data() - bytes_.data());
    places.emplace_back(entry.offset, begin + data.size());
    entries.push_back({std::move(entry.name), data});
  }
  std::ranges::sort(places);
  for (std::size_t i = 1; i < places.size(); ++i) {
    if (places[i - 1].second > places[i].first) {
      fail("{}: two entries overlap at offset {}", path_, places[i].first);
    }
  }
  return entries;
}

}  // namespace

std::vector<ZipEntry> read_stored_zip(std::span<const std::byte> bytes, const std::string& path) {
  return ZipReader(bytes, path).read();
}

}  // namespace gander
