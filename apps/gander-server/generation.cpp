#include "apps/gander-server/generation.h"

#include <iterator>
#include <utility>

#include "apps/gander-server/api/api_error.h"

namespace gander::server {
namespace {

void check_reason(const Finish& finish) {
  if (finish.reason == FinishReason::Error) throw ApiError(500, finish.error);
  if (finish.reason == FinishReason::Cancelled) {
    throw ApiError(503, "the text was cut off: the server is shutting down");
  }
}

std::vector<ToolCall> with_ids(std::vector<ToolCall> calls) {
  for (ToolCall& call : calls) call.id = make_id("call_");
  return calls;
}

Json finish_json(const Choice& choice) {
  if (!choice.finish) return nullptr;
  return finish_reason(choice.finish->reason, !choice.reply.tool_calls().empty());
}

// Of the tokens that came since the last chunk.
Json logprobs_json(const Generation& generation, Choice& choice, const Tokenizer& tokenizer) {
  if (!generation.fields.top_logprobs || choice.tokens.empty()) return nullptr;
  Json json = generation.head.endpoint == Endpoint::Chat
                  ? chat_logprobs(choice.tokens, tokenizer)
                  : completion_logprobs(choice.tokens, tokenizer, choice.logprobs_offset);
  for (const TokenChoice& token : choice.tokens) {
    choice.logprobs_offset += tokenizer.bytes(token.token).size();
  }
  choice.tokens.clear();
  return json;
}

// Of a chat: {"role", "content", "reasoning_content", "tool_calls"}, what there is of it.
std::string delta_text(Choice& choice, const ReplyStream::Piece& piece) {
  std::string delta;
  const auto add = [&](std::string_view name, std::string_view json) {
    fmt::format_to(std::back_inserter(delta), "{}\"{}\":{}", delta.empty() ? "" : ",", name, json);
  };
  const bool is_first = !std::exchange(choice.is_begun, true);
  if (is_first) add("role", "\"assistant\"");
  if (!piece.thinking.empty()) add("reasoning_content", json_text(piece.thinking));
  if (is_first || !piece.words.empty()) add("content", json_text(piece.words));
  if (choice.finish && !choice.reply.tool_calls().empty()) {
    add("tool_calls", json_text(tool_calls_json(with_ids(choice.reply.tool_calls()), true)));
  }
  return "{" + delta + "}";
}

Json message_json(const Choice& choice) {
  Json message = {{"role", "assistant"}};
  const std::vector<ToolCall>& calls = choice.reply.tool_calls();
  message["content"] = choice.words.empty() && !calls.empty() ? Json() : Json(choice.words);
  message["refusal"] = nullptr;
  if (!choice.thinking.empty()) message["reasoning_content"] = choice.thinking;
  if (!calls.empty()) message["tool_calls"] = tool_calls_json(with_ids(calls), false);
  return message;
}

}  // namespace

Generation::~Generation() {
  if (mailbox) mailbox->close();
  for (Ticket& ticket : tickets) ticket.cancel();
}

ReplyStream::Piece take(Generation& generation, OwnedEvent event) {
  Choice& choice = generation.choices.at(event.choice);
  ReplyStream::Piece piece;
  if (generation.head.endpoint == Endpoint::Chat) {
    piece = choice.reply.push(event.text);
  } else {
    piece.words = std::move(event.text);
  }
  choice.tokens.insert(choice.tokens.end(), std::make_move_iterator(event.tokens.begin()),
                       std::make_move_iterator(event.tokens.end()));
  if (event.finish) {
    check_reason(*event.finish);
    if (generation.head.endpoint == Endpoint::Chat) {
      const ReplyStream::Piece rest = choice.reply.finish();
      piece.thinking += rest.thinking;
      piece.words += rest.words;
    }
    // A prompt is counted with the first of its texts.
    generation.usage.add(event.finish->usage, event.choice % generation.fields.choices == 0);
    choice.finish = std::move(event.finish);
    --generation.open;
  }
  if (!generation.fields.stream) {
    choice.thinking += piece.thinking;
    choice.words += piece.words;
  }
  return piece;
}

std::string take_as_chunks(Generation& generation, std::vector<OwnedEvent> events,
                           const Tokenizer& tokenizer) {
  const bool is_chat = generation.head.endpoint == Endpoint::Chat;
  std::string text;
  for (OwnedEvent& event : events) {
    const std::uint32_t index = event.choice;
    const ReplyStream::Piece piece = take(generation, std::move(event));
    Choice& choice = generation.choices[index];
    // Text that is held back needs no chunk; its tokens go with the next.
    if (piece.empty() && !choice.finish && choice.is_begun) continue;
    if (piece.empty() && !choice.finish && !is_chat) continue;
    const std::string part = is_chat ? delta_text(choice, piece) : json_text(piece.words);
    choice.is_begun = true;
    const std::string json = fmt::format(
        R"({{"index":{},"{}":{},"logprobs":{},"finish_reason":{}}})", index,
        is_chat ? "delta" : "text", part, json_text(logprobs_json(generation, choice, tokenizer)),
        json_text(finish_json(choice)));
    text += chunk_event(generation.head, json, generation.fields.include_usage ? "null" : "");
  }
  return text;
}

std::string last_chunks(const Generation& generation) {
  std::string text;
  if (generation.fields.include_usage) {
    text = chunk_event(generation.head, "", json_text(usage_json(generation.usage)));
  }
  return text.append(kDoneEvent);
}

Json choices_json(const Generation& generation, const Tokenizer& tokenizer) {
  Json choices = Json::array();
  for (const Choice& choice : generation.choices) {
    Json json = {{"index", choices.size()}};
    const bool is_chat = generation.head.endpoint == Endpoint::Chat;
    if (is_chat) {
      json["message"] = message_json(choice);
    } else {
      json["text"] = choice.words;
    }
    json["logprobs"] = !generation.fields.top_logprobs ? Json()
                       : is_chat                       ? chat_logprobs(choice.tokens, tokenizer)
                                 : completion_logprobs(choice.tokens, tokenizer, 0);
    json["finish_reason"] = finish_json(choice);
    choices.push_back(std::move(json));
  }
  return choices;
}

}  // namespace gander::server
