#include "backend/gpu/metal/objc.h"

namespace gander::gpu::metal {

Object class_named(const char* name) {
  const Object found{objc_getClass(name)};
  if (!found) fail("the class {} is missing: gander's Metal backend needs macOS 14 or later", name);
  return found;
}

String make_string(const std::string& text) {
  const auto string = send<"stringWithUTF8String:", String>(class_named("NSString"), text.c_str());
  if (!string) fail("'{}' is not UTF-8: give names and paths in UTF-8", text);
  return string;
}

std::string to_text(String string) {
  const auto* bytes = send<"UTF8String", const char*>(string);
  return bytes == nullptr ? "" : bytes;
}

Array make_array(Object object) {
  return send<"arrayWithObject:", Array>(class_named("NSArray"), object);
}

Url make_file_url(const std::string& path) {
  return send<"fileURLWithPath:", Url>(class_named("NSURL"), make_string(path));
}

std::string describe(NSError error) {
  std::string text = to_text(send<"localizedDescription", String>(error));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.empty() ? "no reason given" : text;
}

}  // namespace gander::gpu::metal
