#include "apps/gander-server/api/chat_template.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace gander::server {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";

std::string_view stripped(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kWhiteSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhiteSpace) - begin + 1);
}

// A schema as TypeScript would say it; what has no short name is "any".
std::string type_text(const Json& schema) {
  if (!schema.is_object()) return "any";
  const auto joined = [](const Json& list, const auto& text_of) {
    std::string text;
    for (const Json& element : list) text += (text.empty() ? "" : " | ") + text_of(element);
    return text.empty() ? std::string("any") : text;
  };
  if (const auto found = schema.find("enum"); found != schema.end() && found->is_array()) {
    return joined(*found, json_text);
  }
  if (const auto found = schema.find("const"); found != schema.end()) return json_text(*found);
  for (const char* name : {"anyOf", "oneOf"}) {
    if (const auto found = schema.find(name); found != schema.end() && found->is_array()) {
      return joined(*found, type_text);
    }
  }
  const auto type = schema.find("type");
  if (type == schema.end()) return "any";
  if (type->is_array()) {
    return joined(*type, [](const Json& name) {
      return name.is_string() ? name.get<std::string>() : std::string("any");
    });
  }
  if (!type->is_string()) return "any";
  auto name = type->get<std::string>();
  if (name == "array") {
    const auto items = schema.find("items");
    return items == schema.end() ? "array" : fmt::format("array<{}>", type_text(*items));
  }
  return name;
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, word) != words.end();
}

// Makes references to places of a schema's own document lead to them when it stands at `place` of
// another.
void move_references(Json& schema, const std::string& place) {
  if (schema.is_array()) {
    for (Json& one : schema) move_references(one, place);
  }
  if (!schema.is_object()) return;
  for (auto& [keyword, value] : schema.items()) {
    if (is_one_of(keyword, {"const", "enum", "default", "example", "examples"})) continue;
    if (is_one_of(keyword, {"properties", "patternProperties", "dependentSchemas", "$defs",
                            "definitions"}) &&
        value.is_object()) {  // its keys are names
      for (Json& one : value) move_references(one, place);
    } else if (keyword == "$ref" && value.is_string()) {
      const auto& reference = value.get_ref<const std::string&>();
      if (reference == "#" || reference.starts_with("#/")) {
        value = "#" + place + reference.substr(1);
      }
    } else {
      move_references(value, place);
    }
  }
}

// What is said to the model before the turns: system texts and tools.
std::string opening(const ChatRequest& request) {
  std::string text;
  for (const ChatMessage& message : request.messages) {
    if (message.role != Role::System) break;
    text += (text.empty() ? "" : "\n") + message.text;
  }
  if (request.tool_choice != ToolChoice::None) {
    text += text.empty() ? "Tools:" : "\nTools:";
    for (const Tool& tool : request.tools) text += "\n- " + tool_signature(tool);
    text += request.tool_choice == ToolChoice::Required
                ? "\nReturn only a JSON function call."
                : "\nReturn a JSON function call, or answer in words.";
  }
  return system_turn(text);
}

}  // namespace

std::string tool_signature(const Tool& tool) {
  std::string parameters;
  const auto properties = tool.parameters.find("properties");
  if (properties != tool.parameters.end() && properties->is_object()) {
    const auto required = tool.parameters.find("required");
    for (const auto& [name, schema] : properties->items()) {
      const bool is_required = required != tool.parameters.end() && required->is_array() &&
                               std::ranges::find(*required, Json(name)) != required->end();
      parameters += fmt::format("{}{}{}: {}", parameters.empty() ? "" : ", ", name,
                                is_required ? "" : "?", type_text(schema));
    }
  }
  const std::string signature = fmt::format("{}({})", tool.name, parameters);
  const std::string description = clean_text(tool.description);
  return description.empty() ? signature : fmt::format("{}: {}", signature, description);
}

std::string tool_call_text(const ToolCall& call) {
  // Arguments as the model wrote them, or as they are where they are no JSON.
  return fmt::format("```json\n{{\"name\": {}, \"arguments\": {}}}\n```", json_text(call.name),
                     call.arguments);
}

Json call_schema(const std::vector<Tool>& tools) {
  Json calls = Json::array();
  for (const Tool& tool : tools) {
    const std::string call = tools.size() == 1 ? "" : fmt::format("/anyOf/{}", calls.size());
    Json arguments = tool.parameters.empty() ? Json{{"type", "object"}} : tool.parameters;
    move_references(arguments, call + "/properties/arguments");
    Json properties = {{"name", {{"const", tool.name}}}, {"arguments", std::move(arguments)}};
    calls.push_back({{"type", "object"},
                     {"properties", std::move(properties)},
                     {"required", Json::array({"name", "arguments"})},
                     {"additionalProperties", false}});
  }
  return calls.size() == 1 ? calls.front() : Json{{"anyOf", std::move(calls)}};
}

Thinking thinking_of(const ChatRequest& request) {
  const bool must_be_json = request.wants_json || request.tool_choice == ToolChoice::Required;
  return must_be_json ? Thinking::None : request.thinking;
}

ChatPrompt render_chat(const ChatRequest& request, bool goes_on) {
  const Thinking thinking = thinking_of(request);
  ChatPrompt prompt;
  std::string& text = prompt.text;
  text = goes_on ? "\n\n" : "";
  text += opening(request);
  bool assistant_may_speak = false;  // "Assistant:" is there, and nothing after it
  bool is_opening = true;
  const auto user = [&](std::string_view words) {
    text += user_turn(words, thinking);  // with "Assistant:"
    assistant_may_speak = true;
  };
  // Where the turn before is one of the user's, nobody has answered it.
  const auto end_turn = [&] {
    if (!assistant_may_speak) return;
    constexpr std::string_view kAssistant = "Assistant:";
    text.resize(text.size() - kAssistant.size());
    assistant_may_speak = false;
  };
  for (std::size_t i = 0; i < request.messages.size(); ++i) {
    const ChatMessage& message = request.messages[i];
    if (message.role == Role::System) {
      if (is_opening) continue;
      end_turn();
      text += system_turn(message.text);
      continue;
    }
    is_opening = false;
    switch (message.role) {
      case Role::User:
        end_turn();
        user(message.text);
        break;
      case Role::Tool: {
        std::string results = "Function output:\n" + message.text;
        while (i + 1 < request.messages.size() && request.messages[i + 1].role == Role::Tool) {
          results += "\n" + request.messages[++i].text;
        }
        end_turn();
        user(results);
        break;
      }
      default: {
        if (!assistant_may_speak) text += "Assistant:";
        assistant_may_speak = false;
        const std::string_view words = stripped(message.text);
        if (!words.empty()) text.append(" ").append(words);
        prompt.ends_in_words =
            !words.empty() && message.text.ends_with(words) && message.tool_calls.empty();
        for (const ToolCall& call : message.tool_calls) {
          text.append(&call == message.tool_calls.data() ? " " : "\n").append(tool_call_text(call));
        }
        if (i + 1 < request.messages.size()) text += "\n\n";
      }
    }
  }
  const bool continues = request.messages.back().role == Role::Assistant;
  if (!assistant_may_speak && !continues) text += "Assistant:";
  if (!continues) {
    prompt.ends_in_words = false;
    prompt.reply =
        request.tool_choice == ToolChoice::Required ? " ```json\n" : thinking_prefix(thinking);
    text += prompt.reply;
  }
  return prompt;
}

}  // namespace gander::server
