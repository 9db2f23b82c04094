#pragma once

#include <string>
#include <string_view>

namespace gander::server {

/// A file of page/, which the build puts into the executable.
struct PageFile {
  std::string_view path;  ///< "/script.js"; index.html is "/"
  std::string_view bytes;
  std::string_view content_type;
};

/// Null when there is none.
const PageFile* find_page_file(std::string_view path);

}  // namespace gander::server
