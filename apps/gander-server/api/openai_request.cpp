#include "apps/gander-server/api/openai_request.h"

#include <charconv>
#include <limits>
#include <utility>

namespace gander::server {
namespace {

constexpr std::size_t kMostMessages = 4096;
constexpr std::size_t kMostTools = 128;
constexpr std::size_t kMostStops = 16;
constexpr std::size_t kLongestStop = 1024;
constexpr std::size_t kMostPrompts = 64;
constexpr std::size_t kLongestName = 200;

std::string element_path(std::string_view path, std::size_t index) {
  return fmt::format("{}[{}]", path, index);
}

const Json& array_of(const Json& value, const std::string& path, std::size_t most) {
  if (!value.is_array()) refuse_field(path, "'{}' must be an array", path);
  if (value.size() > most) {
    refuse_field(path, "'{}' has {} elements, at most {} are allowed", path, value.size(), most);
  }
  return value;
}

void read_stops(const JsonFields& fields, std::vector<std::string>& stops) {
  const Json* const value = fields.find("stop");
  if (value == nullptr) return;
  const auto add = [&](const Json& stop, const std::string& path) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty() ||
        stop.get_ref<const std::string&>().size() > kLongestStop) {
      refuse_field(path, "'{}' must be a string of 1 to {} bytes", path, kLongestStop);
    }
    stops.push_back(stop.get<std::string>());
  };
  if (value->is_string()) {
    add(*value, fields.path_of("stop"));
    return;
  }
  array_of(*value, fields.path_of("stop"), kMostStops);
  for (std::size_t i = 0; i < value->size(); ++i) {
    add((*value)[i], element_path(fields.path_of("stop"), i));
  }
}

void read_logit_bias(const JsonFields& fields, std::uint32_t vocab_size,
                     SamplerSettings& settings) {
  const Json* const value = fields.find("logit_bias");
  if (value == nullptr) return;
  const std::string path = fields.path_of("logit_bias");
  if (!value->is_object()) {
    refuse_field(path, "'{}' must be an object of token ids and numbers", path);
  }
  for (const auto& [key, bias] : value->items()) {
    TokenId token = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || token >= vocab_size) {
      refuse_field(path, "'{}': \"{}\" is not a token id below {}", path, key, vocab_size);
    }
    if (!bias.is_number() || !(bias.get<double>() >= -100 && bias.get<double>() <= 100)) {
      refuse_field(path, "'{}': the bias of token {} must be a number from -100 to 100", path, key);
    }
    // -100 is a ban, as it is said to be.
    const auto number = bias.get<float>();
    settings.logit_bias.emplace_back(
        token, number == -100.0F ? -std::numeric_limits<float>::infinity() : number);
  }
}

SamplerSettings read_sampling(const JsonFields& fields, std::uint32_t vocab_size) {
  constexpr double kLargest = 1e6;
  SamplerSettings settings;
  const auto read = [&](const char* name, float& setting, double least, double most) {
    if (const auto value = fields.number(name, least, most)) setting = static_cast<float>(*value);
  };
  read("temperature", settings.temperature, 0, 2);
  read("top_p", settings.top_p, 0, 1);
  read("presence_penalty", settings.presence_penalty, -2, 2);
  read("frequency_penalty", settings.frequency_penalty, -2, 2);
  read("min_p", settings.min_p, 0, 1);
  read("typical_p", settings.typical_p, 0.001, 1);
  read("repetition_penalty", settings.repetition_penalty, 0.01, kLargest);
  read("penalty_decay", settings.penalty_decay, 0, 1);
  if (const auto value = fields.integer("top_k", 0, std::numeric_limits<std::int32_t>::max())) {
    settings.top_k = static_cast<std::uint32_t>(*value);
  }
  read_logit_bias(fields, vocab_size, settings);
  return settings;
}

GenerationFields read_common(const JsonFields& fields, const RequestLimits& limits) {
  GenerationFields common;
  common.model = fields.string("model").value_or("");
  common.stream = fields.boolean("stream").value_or(false);
  if (const Json* const options = fields.find("stream_options")) {
    common.include_usage = JsonFields(*options, fields.path_of("stream_options"))
                               .boolean("include_usage")
                               .value_or(false);
  }
  common.max_tokens = std::min(limits.default_max_tokens, limits.max_tokens);
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto value = fields.integer(name, 0, limits.max_tokens)) {
      common.max_tokens = static_cast<std::uint32_t>(*value);
    }
  }
  common.choices =
      static_cast<std::uint32_t>(fields.integer("n", 1, limits.max_choices).value_or(1));
  read_stops(fields, common.stops);
  common.sampling = read_sampling(fields, limits.vocab_size);
  constexpr auto kMostSeed = std::numeric_limits<std::int64_t>::max();
  if (const auto seed = fields.integer("seed", -kMostSeed, kMostSeed)) {
    common.seed = static_cast<std::uint64_t>(*seed);
  }
  common.state = fields.string("state").value_or("");
  if (common.state.size() > kLongestName) {
    refuse_field("state", "'state' is longer than {} bytes", kLongestName);
  }
  if (!common.state.empty() && common.choices != 1) {
    refuse_field("n", "'n' must be 1 with 'state': only one text can be its end");
  }
  return common;
}

// Text, or an array of parts of text.
std::string read_content(const Json& content, const std::string& path) {
  if (content.is_string()) return content.get<std::string>();
  array_of(content, path, kMostMessages);
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const JsonFields part(content[i], element_path(path, i));
    const std::string type = part.required_string("type");
    if (type == "text") {
      text += part.required_string("text");
    } else if (type == "refusal") {
      text += part.required_string("refusal");
    } else {
      refuse_field(part.path_of("type"), "'{}': parts of type \"{}\" are not supported, only text",
                   part.path_of("type"), type.substr(0, 40));
    }
  }
  return text;
}

std::vector<ToolCall> read_tool_calls(const Json& value, const std::string& path) {
  std::vector<ToolCall> calls;
  array_of(value, path, kMostTools);
  for (std::size_t i = 0; i < value.size(); ++i) {
    const JsonFields call(value[i], element_path(path, i));
    const Json* const function = call.find("function");
    if (function == nullptr) {
      refuse_field(call.path_of("function"), "'{}' is missing", call.path_of("function"));
    }
    const JsonFields fields(*function, call.path_of("function"));
    calls.push_back({call.string("id").value_or(""), fields.required_string("name"),
                     fields.string("arguments").value_or("{}")});
  }
  return calls;
}

ChatMessage read_message(const JsonFields& fields) {
  const std::string role = fields.required_string("role");
  ChatMessage message;
  if (role == "system" || role == "developer") {
    message.role = Role::System;
  } else if (role == "user") {
    message.role = Role::User;
  } else if (role == "assistant") {
    message.role = Role::Assistant;
  } else if (role == "tool") {
    message.role = Role::Tool;
  } else {
    refuse_field(fields.path_of("role"),
                 "'{}' must be one of system, developer, user, assistant, tool",
                 fields.path_of("role"));
  }
  fields.refuse("function_call", "use tool_calls");
  if (message.role == Role::Assistant) {
    fields.refuse("audio", "there is only text");
    if (const Json* const calls = fields.find("tool_calls")) {
      message.tool_calls = read_tool_calls(*calls, fields.path_of("tool_calls"));
    }
  }
  const Json* const content = fields.find("content");
  if (content != nullptr) {
    message.text = read_content(*content, fields.path_of("content"));
  } else if (message.role != Role::Assistant) {
    refuse_field(fields.path_of("content"), "'{}' is missing", fields.path_of("content"));
  }
  return message;
}

bool is_function_name(std::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  for (const char c : name) {
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!is_letter && !(c >= '0' && c <= '9') && c != '_' && c != '-') return false;
  }
  return true;
}

std::vector<Tool> read_tools(const JsonFields& fields) {
  std::vector<Tool> tools;
  const Json* const value = fields.find("tools");
  if (value == nullptr) return tools;
  array_of(*value, "tools", kMostTools);
  for (std::size_t i = 0; i < value->size(); ++i) {
    const JsonFields tool((*value)[i], element_path("tools", i));
    tool.one_of("type", {"function"});
    const Json* const function = tool.find("function");
    if (function == nullptr) {
      refuse_field(tool.path_of("function"), "'{}' is missing", tool.path_of("function"));
    }
    const JsonFields parts(*function, tool.path_of("function"));
    Tool read{parts.required_string("name"), parts.string("description").value_or(""),
              Json::object()};
    if (!is_function_name(read.name)) {
      refuse_field(parts.path_of("name"),
                   "'{}' must be 1 to 64 letters, digits, underscores or dashes",
                   parts.path_of("name"));
    }
    if (const Json* const parameters = parts.find("parameters")) {
      if (!parameters->is_object()) {
        refuse_field(parts.path_of("parameters"), "'{}' must be a JSON schema",
                     parts.path_of("parameters"));
      }
      read.parameters = *parameters;
    }
    tools.push_back(std::move(read));
  }
  return tools;
}

void read_tool_choice(const JsonFields& fields, ChatRequest& request) {
  request.tool_choice = request.tools.empty() ? ToolChoice::None : ToolChoice::Auto;
  const Json* const value = fields.find("tool_choice");
  if (value == nullptr) return;
  if (value->is_string()) {
    const std::string choice = *fields.one_of("tool_choice", {"none", "auto", "required"});
    if (choice == "none") request.tool_choice = ToolChoice::None;
    if (choice == "required") request.tool_choice = ToolChoice::Required;
  } else {
    const JsonFields choice(*value, "tool_choice");
    choice.one_of("type", {"function"});
    const Json* const function = choice.find("function");
    const std::string name =
        function != nullptr ? JsonFields(*function, "tool_choice.function").required_string("name")
                            : choice.required_string("name");
    std::erase_if(request.tools, [&](const Tool& tool) { return tool.name != name; });
    if (request.tools.empty()) {
      refuse_field("tool_choice", "'tool_choice' names \"{}\", which is not one of the tools",
                   name.substr(0, 64));
    }
    request.tool_choice = ToolChoice::Required;
  }
  if (request.tool_choice == ToolChoice::Required && request.tools.empty()) {
    refuse_field("tool_choice", "'tool_choice' requires a call, and there are no tools");
  }
}

void read_response_format(const JsonFields& fields, ChatRequest& request) {
  const Json* const value = fields.find("response_format");
  if (value == nullptr) return;
  const JsonFields format(*value, "response_format");
  const auto type = format.one_of("type", {"text", "json_object", "json_schema"});
  if (!type) refuse_field("response_format.type", "'response_format.type' is missing");
  request.wants_json = *type != "text";
  if (*type != "json_schema") return;
  const Json* const wrapper = format.find("json_schema");
  if (wrapper == nullptr) {
    refuse_field("response_format.json_schema", "'response_format.json_schema' is missing");
  }
  const JsonFields named(*wrapper, "response_format.json_schema");
  const Json* const schema = named.find("schema");
  if (schema == nullptr || !(schema->is_object() || schema->is_boolean())) {
    refuse_field(named.path_of("schema"), "'{}' must be a JSON schema", named.path_of("schema"));
  }
  request.json_schema = *schema;
}

Thinking read_thinking(const JsonFields& fields) {
  const auto effort =
      fields.one_of("reasoning_effort", {"none", "minimal", "low", "medium", "high", "xhigh"});
  const auto thinking =
      fields.one_of("thinking", {"none", "fake", "free", "short", "normal", "long"});
  const std::string wanted = thinking.value_or(effort.value_or("none"));
  if (wanted == "none") return Thinking::None;
  if (wanted == "fake" || wanted == "minimal") return Thinking::Fake;
  if (wanted == "free") return Thinking::Free;
  if (wanted == "short" || wanted == "low") return Thinking::Short;
  if (wanted == "normal" || wanted == "medium") return Thinking::Normal;
  return Thinking::Long;
}

void refuse_what_would_matter(const JsonFields& fields) {
  fields.refuse("functions", "use 'tools'");
  fields.refuse("function_call", "use 'tool_choice'");
  fields.refuse("audio", "there is only text");
  fields.refuse("web_search_options", "the server searches nothing");
  if (const Json* const modalities = fields.find("modalities")) {
    if (*modalities != Json::array({"text"})) {
      refuse_field("modalities", "'modalities' must be [\"text\"]");
    }
  }
}

CompletionRequest::Prompt read_prompt(const Json& value, const std::string& path,
                                      std::uint32_t vocab_size) {
  if (value.is_string()) return {value.get<std::string>(), {}};
  CompletionRequest::Prompt prompt;
  if (!value.is_array() || value.empty()) {
    refuse_field(path, "'{}' must be a string or an array of tokens", path);
  }
  for (const Json& token : value) {
    if (!token.is_number_unsigned() || token.get<std::uint64_t>() >= vocab_size) {
      refuse_field(path, "'{}' must hold token ids below {}", path, vocab_size);
    }
    prompt.tokens.push_back(token.get<TokenId>());
  }
  return prompt;
}

}  // namespace

ChatRequest parse_chat_request(std::string_view body, const RequestLimits& limits) {
  const Json json = parse_body(body);
  const JsonFields fields(json, "");
  refuse_what_would_matter(fields);
  ChatRequest request;
  request.common = read_common(fields, limits);
  if (fields.boolean("logprobs").value_or(false)) {
    request.common.top_logprobs =
        static_cast<std::uint32_t>(fields.integer("top_logprobs", 0, 20).value_or(0));
  } else {
    fields.refuse("top_logprobs", "without 'logprobs'");
  }
  const Json* const messages = fields.find("messages");
  if (messages == nullptr) refuse_field("messages", "'messages' is missing");
  array_of(*messages, "messages", kMostMessages);
  if (messages->empty()) refuse_field("messages", "'messages' is empty");
  for (std::size_t i = 0; i < messages->size(); ++i) {
    request.messages.push_back(
        read_message(JsonFields((*messages)[i], element_path("messages", i))));
  }
  request.tools = read_tools(fields);
  read_tool_choice(fields, request);
  read_response_format(fields, request);
  request.thinking = read_thinking(fields);
  return request;
}

CompletionRequest parse_completion_request(std::string_view body, const RequestLimits& limits) {
  const Json json = parse_body(body);
  const JsonFields fields(json, "");
  fields.refuse("suffix", "text is only generated after a prompt");
  if (fields.boolean("echo").value_or(false)) {
    refuse_field("echo", "'echo' is not supported: the prompt is known to the client");
  }
  CompletionRequest request;
  request.common = read_common(fields, limits);
  if (fields.integer("best_of", 1, limits.max_choices).value_or(1) > request.common.choices) {
    refuse_field("best_of", "'best_of' larger than 'n' is not supported");
  }
  if (const auto count = fields.integer("logprobs", 0, 20)) {
    request.common.top_logprobs = static_cast<std::uint32_t>(*count);
  }
  const Json* const prompt = fields.find("prompt");
  if (prompt == nullptr) refuse_field("prompt", "'prompt' is missing");
  const bool is_list = prompt->is_array() && !prompt->empty() && !prompt->front().is_number();
  if (!is_list) {
    request.prompts.push_back(read_prompt(*prompt, "prompt", limits.vocab_size));
  } else {
    array_of(*prompt, "prompt", kMostPrompts);
    for (std::size_t i = 0; i < prompt->size(); ++i) {
      request.prompts.push_back(
          read_prompt((*prompt)[i], element_path("prompt", i), limits.vocab_size));
    }
  }
  if (!request.common.state.empty() && request.prompts.size() != 1) {
    refuse_field("prompt", "'prompt' must be one with 'state'");
  }
  return request;
}

}  // namespace gander::server
