#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "apps/gander-server/api/openai_request.h"

namespace gander::server {
namespace {

RequestLimits limits() {
  RequestLimits limits;
  limits.vocab_size = 300;
  limits.max_tokens = 1000;
  return limits;
}

std::string chat_with(const std::string& fields) {
  return R"({"messages": [{"role": "user", "content": "Hi"}])" +
         (fields.empty() ? "" : ", " + fields) + "}";
}

ChatRequest chat(const std::string& fields) {
  return parse_chat_request(chat_with(fields), limits());
}

struct Refusal {
  std::string body, param;
};

TEST(ServerRequest, ReadsEveryField) {
  const ChatRequest request = chat(
      R"("model": "m", "stream": true, "stream_options": {"include_usage": true}, "n": 3,
      "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.25, "top_k": 4, "min_p": 0.125,
      "typical_p": 0.75, "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5,
      "penalty_decay": 0.5, "seed": 9, "stop": ["a", "b"], "logit_bias": {"5": 2, "6": -100},
      "logprobs": true, "top_logprobs": 2, "user": "x", "metadata": {"a": 1}, "thinking": "short")");
  const GenerationFields& common = request.common;
  EXPECT_EQ(common.model, "m");
  EXPECT_TRUE(common.stream && common.include_usage);
  EXPECT_EQ(common.choices, 3U);
  EXPECT_EQ(common.max_tokens, 7U);
  EXPECT_EQ(common.stops, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(common.seed, 9U);
  EXPECT_EQ(common.top_logprobs, 2U);
  const SamplerSettings& sampling = common.sampling;
  EXPECT_EQ(sampling.temperature, 0.5F);
  EXPECT_EQ(sampling.top_p, 0.25F);
  EXPECT_EQ(sampling.top_k, 4U);
  EXPECT_EQ(sampling.min_p, 0.125F);
  EXPECT_EQ(sampling.typical_p, 0.75F);
  EXPECT_EQ(sampling.presence_penalty, 1.0F);
  EXPECT_EQ(sampling.frequency_penalty, -1.0F);
  EXPECT_EQ(sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(sampling.penalty_decay, 0.5F);
  const std::vector<std::pair<TokenId, float>> bias = {
      {5, 2.0F}, {6, -std::numeric_limits<float>::infinity()}};
  EXPECT_EQ(sampling.logit_bias, bias);
  EXPECT_EQ(request.thinking, Thinking::Short);
}

TEST(ServerRequest, HasDefaultsAndTakesNullAsAbsent) {
  const ChatRequest request =
      chat(R"("temperature": null, "stop": null, "tools": null, "n": null)");
  EXPECT_EQ(request.common.sampling.temperature, 1.0F);
  EXPECT_EQ(request.common.choices, 1U);
  EXPECT_EQ(request.common.max_tokens, 1000U);  // the most there is, as it is below the default
  EXPECT_FALSE(request.common.seed || request.common.top_logprobs || request.common.stream);
  EXPECT_EQ(request.thinking, Thinking::None);
  EXPECT_EQ(request.tool_choice, ToolChoice::None);
}

TEST(ServerRequest, ReadsMessagesOfEveryRole) {
  const ChatRequest request = parse_chat_request(
      R"({"messages": [{"role": "developer", "content": "S"},
          {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
          {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
          {"role": "tool", "tool_call_id": "1", "content": "R"}]})",
      limits());
  ASSERT_EQ(request.messages.size(), 4U);
  EXPECT_EQ(request.messages[0].role, Role::System);
  EXPECT_EQ(request.messages[1].text, "ab");
  ASSERT_EQ(request.messages[2].tool_calls.size(), 1U);
  EXPECT_EQ(request.messages[2].tool_calls[0].arguments, "{\"x\": 1}");
  EXPECT_EQ(request.messages[3].role, Role::Tool);
}

TEST(ServerRequest, ReadsToolsAndTheirChoice) {
  const std::string tools =
      R"("tools": [{"type": "function", "function": {"name": "f"}},
                   {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}])";
  EXPECT_EQ(chat(tools).tool_choice, ToolChoice::Auto);
  EXPECT_EQ(chat(tools + R"(, "tool_choice": "none")").tool_choice, ToolChoice::None);
  EXPECT_EQ(chat(tools + R"(, "tool_choice": "required")").tools.size(), 2U);
  const ChatRequest named =
      chat(tools + R"(, "tool_choice": {"type": "function", "function": {"name": "g"}})");
  EXPECT_EQ(named.tool_choice, ToolChoice::Required);
  ASSERT_EQ(named.tools.size(), 1U);
  EXPECT_EQ(named.tools[0].name, "g");
}

TEST(ServerRequest, ReadsResponseFormats) {
  EXPECT_FALSE(chat(R"("response_format": {"type": "text"})").wants_json);
  const ChatRequest any = chat(R"("response_format": {"type": "json_object"})");
  EXPECT_TRUE(any.wants_json && !any.json_schema);
  const ChatRequest strict = chat(
      R"("response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"b": 1, "a": 2}}})");
  ASSERT_TRUE(strict.json_schema);
  EXPECT_EQ(json_text(*strict.json_schema), R"({"b":1,"a":2})");  // in its order
}

TEST(ServerRequest, NamesTheFieldThatIsWrong) {
  const Refusal refusals[] = {
      {"[]", ""},
      {"{", ""},
      {"{}", "messages"},
      {R"({"messages": 1})", "messages"},
      {R"({"messages": []})", "messages"},
      {R"({"messages": [1]})", "messages[0]"},
      {R"({"messages": [{"content": "x"}]})", "messages[0].role"},
      {R"({"messages": [{"role": "user"}]})", "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": 1}]})", "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]})",
       "messages[0].content[0].type"},
      {chat_with(R"("temperature": -0.1)"), "temperature"},
      {chat_with(R"("temperature": "hot")"), "temperature"},
      {chat_with(R"("top_p": 1.1)"), "top_p"},
      {chat_with(R"("n": 0)"), "n"},
      {chat_with(R"("n": 17)"), "n"},
      {chat_with(R"("n": 1.5)"), "n"},
      {chat_with(R"("max_tokens": 1001)"), "max_tokens"},
      {chat_with(R"("max_tokens": -1)"), "max_tokens"},
      {chat_with(R"("max_tokens": 18446744073709551615)"), "max_tokens"},
      {chat_with(R"("seed": 1e400)"), ""},
      {chat_with(R"("stop": "")"), "stop"},
      {chat_with(R"("stop": ["a", 1])"), "stop[1]"},
      {chat_with(R"("stream": 1)"), "stream"},
      {chat_with(R"("stream_options": 1)"), "stream_options"},
      {chat_with(R"("logit_bias": {"300": 1})"), "logit_bias"},
      {chat_with(R"("logit_bias": {"-1": 1})"), "logit_bias"},
      {chat_with(R"("logit_bias": {"1": 101})"), "logit_bias"},
      {chat_with(R"("logit_bias": [1])"), "logit_bias"},
      {chat_with(R"("top_logprobs": 2)"), "top_logprobs"},
      {chat_with(R"("logprobs": true, "top_logprobs": 21)"), "top_logprobs"},
      {chat_with(R"("tools": [{"type": "function"}])"), "tools[0].function"},
      {chat_with(R"("tools": [{"type": "function", "function": {"name": "a b"}}])"),
       "tools[0].function.name"},
      {chat_with(R"("tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}])"),
       "tools[0].function.parameters"},
      {chat_with(R"("tool_choice": "required")"), "tool_choice"},
      {chat_with(R"("tool_choice": {"type": "function", "function": {"name": "h"}})"),
       "tool_choice"},
      {chat_with(R"("response_format": {"type": "xml"})"), "response_format.type"},
      {chat_with(R"("response_format": {"type": "json_schema"})"), "response_format.json_schema"},
      {chat_with(R"("functions": [])"), "functions"},
      {chat_with(R"("audio": {})"), "audio"},
      {chat_with(R"("modalities": ["text", "audio"])"), "modalities"},
      {chat_with(R"("reasoning_effort": "most")"), "reasoning_effort"},
      {chat_with(R"("state": "s", "n": 2)"), "n"},
  };
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.body);
    try {
      parse_chat_request(refusal.body, limits());
      ADD_FAILURE() << "not refused";
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status(), 400U);
      EXPECT_EQ(error.param(), refusal.param) << error.what();
      EXPECT_NE(error_json(error).find("invalid_request_error"), std::string::npos);
    }
  }
}

TEST(ServerRequest, RefusesWhatIsNestedTooDeeply) {
  const std::string deep(100000, '[');
  EXPECT_THROW(parse_chat_request(R"({"a": )" + deep, limits()), ApiError);
}

TEST(ServerRequest, ReadsCompletions) {
  const auto prompts = [](const std::string& body) {
    return parse_completion_request(body, limits()).prompts;
  };
  EXPECT_EQ(prompts(R"({"prompt": "x"})").at(0).text, "x");
  EXPECT_EQ(prompts(R"({"prompt": ["x", "y"]})").at(1).text, "y");
  EXPECT_EQ(prompts(R"({"prompt": [1, 2]})").at(0).tokens, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(prompts(R"({"prompt": [[1], [2, 3]]})").at(1).tokens, (std::vector<TokenId>{2, 3}));
  for (const char* body : {"{}", R"({"prompt": [300]})", R"({"prompt": [-1]})", R"({"prompt": []})",
                           R"({"prompt": [[]]})", R"({"prompt": "x", "echo": true})",
                           R"({"prompt": "x", "suffix": "y"})", R"({"prompt": "x", "best_of": 2})",
                           R"({"prompt": ["x", "y"], "state": "s"})"}) {
    EXPECT_THROW(prompts(body), ApiError) << body;
  }
}

}  // namespace
}  // namespace gander::server
