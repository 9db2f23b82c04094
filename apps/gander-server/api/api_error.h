#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "apps/gander-server/http/message.h"

namespace gander::server {

/// What goes to the client in the shape of OpenAI's errors, with an HTTP status.
class ApiError : public std::runtime_error {
 public:
  /// `param`: the field that is wrong, as "messages[2].content"; `code` for programs; both may be
  /// empty.
  explicit ApiError(unsigned status, const std::string& message, std::string param = "",
                    std::string code = "")
      : std::runtime_error(message),
        status_(status),
        param_(std::move(param)),
        code_(std::move(code)) {}

  unsigned status() const { return status_; }
  const std::string& param() const { return param_; }
  const std::string& code() const { return code_; }

 private:
  unsigned status_;
  std::string param_, code_;
};

/// {"error": {"message", "type", "param", "code"}}
std::string error_json(const ApiError& error);
HttpResponse error_response(const ApiError& error);

/// Throws an ApiError about a field: status 400.
template <typename... Args>
[[noreturn]] void refuse_field(std::string param, fmt::format_string<Args...> format,
                               Args&&... args) {
  throw ApiError(400, fmt::format(format, std::forward<Args>(args)...), std::move(param));
}

}  // namespace gander::server
