#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apps/gander-server/api/json_fields.h"
#include "apps/gander-server/api/openai_request.h"
#include "engine/serving/request.h"
#include "model/tokenizer/tokenizer.h"

// Responses of OpenAI's API, whole and in chunks.
namespace gander::server {

enum class Endpoint { Chat, Completions };

/// What every chunk of a response says.
struct ResponseHead {
  Endpoint endpoint = Endpoint::Chat;
  std::string id, model;
  std::int64_t created = 0;  ///< seconds since 1970
};
/// "chatcmpl-" or "cmpl-", and 24 random letters.
std::string make_id(std::string_view prefix);

/// Of one request: the prompts and all texts.
struct UsageSum {
  std::uint64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  double waiting_seconds = 0, prompt_seconds = 0, seconds = 0;  ///< the longest of each

  /// `is_first`: the prompt counts once, whatever the number of its texts.
  void add(const Usage& usage, bool is_first);
};
Json usage_json(const UsageSum& usage);

/// "stop", "length" or "tool_calls".
std::string finish_reason(FinishReason reason, bool has_tool_calls);

/// A chat's: {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}.
Json chat_logprobs(const std::vector<TokenChoice>& tokens, const Tokenizer& tokenizer);
/// A completion's: lists of tokens, logprobs, likeliest ones and offsets into the text, which
/// begin at `offset`.
Json completion_logprobs(const std::vector<TokenChoice>& tokens, const Tokenizer& tokenizer,
                         std::size_t offset);

Json tool_calls_json(const std::vector<ToolCall>& calls, bool with_index);

/// A chunk as a server-sent event, of parts that are JSON already: there is one for every token.
/// `choices` without its brackets; `usage` may be empty.
std::string chunk_event(const ResponseHead& head, std::string_view choices, std::string_view usage);
/// The whole response.
std::string response_json(const ResponseHead& head, Json choices, const UsageSum& usage);

inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n";

}  // namespace gander::server
