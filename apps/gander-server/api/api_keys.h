#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gander::server {

/// The keys that may use the server. They are never shown: not in errors, not in the log.
class ApiKeys {
 public:
  ApiKeys() = default;  ///< none: everyone may
  explicit ApiKeys(std::vector<std::string> keys);

  /// Keys of a file, one a line, and of $GANDER_API_KEYS, separated by commas; blank lines and
  /// lines that begin with # are passed over. An empty path: no file. Throws Error when the file
  /// cannot be read or has no keys, and for a key shorter than 8 bytes or with white space inside.
  static ApiKeys load(const std::string& path);

  bool empty() const { return keys_.empty(); }

  /// Who sends this Authorization header ("Bearer KEY"): a name made from the key, which does not
  /// give it away; "" where there are no keys; nothing for a wrong or missing key. Takes the same
  /// time whatever the key.
  std::optional<std::string> identify(std::string_view authorization) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace gander::server
