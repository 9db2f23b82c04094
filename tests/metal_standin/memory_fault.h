#pragma once

#include <string_view>

namespace gander::standin {

/// While it lives, touching memory that is not there ends the program with a line that names the
/// kernel, on this thread: what a buffer's guard pages are for.
class FaultScope {
 public:
  explicit FaultScope(std::string_view kernel);
  ~FaultScope();
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;
};

}  // namespace gander::standin
