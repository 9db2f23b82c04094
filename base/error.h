#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace gander {

/// The one error type of the project. what() is a single line for a person: what was wrong, where
/// (file, tensor, offset, field), and what to do about it. Loading and set-up throw it; the token
/// path (Backend::forward, Sampler::sample) throws nothing.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws an Error with a formatted message.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace gander
