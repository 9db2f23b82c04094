#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace gander {

struct ZipEntry {
  std::string name;
  std::span<const std::byte> data;  ///< where it lies in the archive
};

/// The entries of a zip or zip64 archive that lies in memory, all of which must be stored, not
/// compressed, as torch.save writes them. Central directory and local headers are checked against
/// each other. Checksums are not: that would read the whole model. Throws Error.
std::vector<ZipEntry> read_stored_zip(std::span<const std::byte> bytes, const std::string& path);

}  // namespace gander
