#include "apps/gander-server/api/openai_response.h"

#include <algorithm>
#include <random>
#include <utility>

namespace gander::server {
namespace {

Json bytes_json(std::string_view text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json head_json(const ResponseHead& head, std::string_view object) {
  return {{"id", head.id}, {"object", object}, {"created", head.created}, {"model", head.model}};
}

}  // namespace

std::string make_id(std::string_view prefix) {
  static constexpr std::string_view kLetters =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  thread_local std::mt19937_64 random{std::random_device()()};
  std::string id(prefix);
  std::uniform_int_distribution<std::size_t> letter(0, kLetters.size() - 1);
  for (int i = 0; i < 24; ++i) id += kLetters[letter(random)];
  return id;
}

void UsageSum::add(const Usage& usage, bool is_first) {
  if (is_first) {
    prompt_tokens += usage.prompt_tokens;
    cached_tokens += usage.cached_tokens;
  }
  generated_tokens += usage.generated_tokens;
  waiting_seconds = std::max(waiting_seconds, usage.waiting_seconds);
  prompt_seconds = std::max(prompt_seconds, usage.prompt_seconds);
  seconds = std::max(seconds, usage.seconds);
}

Json usage_json(const UsageSum& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.generated_tokens},
          {"total_tokens", usage.prompt_tokens + usage.generated_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"timings",
           {{"waiting_seconds", usage.waiting_seconds},
            {"prompt_seconds", usage.prompt_seconds},
            {"seconds", usage.seconds}}}};
}

std::string finish_reason(FinishReason reason, bool has_tool_calls) {
  if (has_tool_calls) return "tool_calls";
  return reason == FinishReason::EndOfText || reason == FinishReason::StopString ? "stop"
                                                                                 : "length";
}

Json chat_logprobs(const std::vector<TokenChoice>& tokens, const Tokenizer& tokenizer) {
  const auto entry = [&](TokenId token, float logprob) {
    const std::string_view text = tokenizer.bytes(token);
    return Json{{"token", text}, {"logprob", logprob}, {"bytes", bytes_json(text)}};
  };
  Json content = Json::array();
  for (const TokenChoice& choice : tokens) {
    Json json = entry(choice.token, choice.logprob);
    Json& top = json["top_logprobs"] = Json::array();
    for (const auto& [token, logprob] : choice.top) top.push_back(entry(token, logprob));
    content.push_back(std::move(json));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json completion_logprobs(const std::vector<TokenChoice>& tokens, const Tokenizer& tokenizer,
                         std::size_t offset) {
  Json json = {{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
  for (const TokenChoice& choice : tokens) {
    const std::string_view text = tokenizer.bytes(choice.token);
    Json top = Json::object();
    for (const auto& [token, logprob] : choice.top) {
      top[std::string(tokenizer.bytes(token))] = logprob;
    }
    json["tokens"].push_back(text);
    json["token_logprobs"].push_back(choice.logprob);
    json["top_logprobs"].push_back(std::move(top));
    json["text_offset"].push_back(offset);
    offset += text.size();
  }
  return json;
}

Json tool_calls_json(const std::vector<ToolCall>& calls, bool with_index) {
  Json list = Json::array();
  for (const ToolCall& call : calls) {
    Json json = Json::object();
    if (with_index) json["index"] = list.size();
    json["id"] = call.id;
    json["type"] = "function";
    json["function"] = {{"name", call.name}, {"arguments", call.arguments}};
    list.push_back(std::move(json));
  }
  return list;
}

std::string chunk_event(const ResponseHead& head, std::string_view choices,
                        std::string_view usage) {
  return fmt::format(
      R"(data: {{"id":"{}","object":"{}","created":{},"model":{},"choices":[{}]{}{}}})"
      "\n\n",
      head.id, head.endpoint == Endpoint::Chat ? "chat.completion.chunk" : "text_completion",
      head.created, json_text(head.model), choices, usage.empty() ? "" : ",\"usage\":", usage);
}

std::string response_json(const ResponseHead& head, Json choices, const UsageSum& usage) {
  Json json =
      head_json(head, head.endpoint == Endpoint::Chat ? "chat.completion" : "text_completion");
  json["choices"] = std::move(choices);
  json["usage"] = usage_json(usage);
  return json_text(json) + "\n";
}

}  // namespace gander::server
