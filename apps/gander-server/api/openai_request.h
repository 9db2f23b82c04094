#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/gander-server/api/json_fields.h"
#include "backend/sampling.h"
#include "engine/chat.h"

// Bodies of OpenAI's API as plain data. Parsing checks everything and throws ApiError.
namespace gander::server {

struct RequestLimits {
  std::uint32_t max_tokens = 131072;        ///< the most that may be asked for
  std::uint32_t default_max_tokens = 4096;  ///< where nothing is asked for
  std::uint32_t max_choices = 16;
  std::uint32_t vocab_size = 65536;
};

/// What chats and completions share.
struct GenerationFields {
  std::string model;
  bool stream = false;
  bool include_usage = false;  ///< stream_options
  std::uint32_t max_tokens = 0;
  std::uint32_t choices = 1;
  std::vector<std::string> stops = {};
  SamplerSettings sampling = {};
  std::optional<std::uint64_t> seed = std::nullopt;  ///< none: one is made up
  std::optional<std::uint32_t> top_logprobs = std::nullopt;
  std::string state;  ///< a named state to go on from and to leave the end in; empty: none
};

struct ToolCall {
  std::string id, name;
  std::string arguments;  ///< JSON text
};

enum class Role { System, User, Assistant, Tool };

struct ChatMessage {
  Role role = Role::User;
  std::string text = {};
  std::vector<ToolCall> tool_calls = {};  ///< of the assistant
};

struct Tool {
  std::string name, description;
  Json parameters;  ///< a JSON schema; an empty object where there is none
};

enum class ToolChoice { None, Auto, Required };

struct ChatRequest {
  GenerationFields common;
  std::vector<ChatMessage> messages;
  std::vector<Tool> tools = {};  ///< with a named tool_choice: that one
  ToolChoice tool_choice = ToolChoice::None;
  bool wants_json = false;               ///< response_format json_object or json_schema
  std::optional<Json> json_schema = {};  ///< none: any object
  Thinking thinking = Thinking::None;
};

struct CompletionRequest {
  GenerationFields common;
  /// Text, or tokens where there is no text.
  struct Prompt {
    std::string text = {};
    std::vector<TokenId> tokens = {};
  };
  std::vector<Prompt> prompts;
};

ChatRequest parse_chat_request(std::string_view body, const RequestLimits& limits);
CompletionRequest parse_completion_request(std::string_view body, const RequestLimits& limits);

}  // namespace gander::server
