#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/gander-server/api/chat_template.h"
#include "apps/gander-server/api/openai_response.h"
#include "apps/gander-server/api/reply_stream.h"
#include "engine/grammar/grammar.h"
#include "tests/support/vocabularies.h"

namespace gander::server {
namespace {

ChatMessage message(Role role, std::string text) {
  return {.role = role, .text = std::move(text)};
}

Tool weather() {
  return {"get_weather", "",
          Json::parse(R"({"type": "object", "required": ["place"], "properties": {
              "place": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]},
              "days": {"type": "array", "items": {"type": "integer"}}}})")};
}

std::string prompt_of(std::vector<ChatMessage> messages) {
  ChatRequest request;
  request.messages = std::move(messages);
  return render_chat(request).text;
}

TEST(ServerChat, RendersTurnsAsTheModelsWereTrained) {
  EXPECT_EQ(prompt_of({message(Role::User, " a\r\n\r\nb ")}), "User: a\nb\n\nAssistant:");
  EXPECT_EQ(
      prompt_of({message(Role::System, "S"), message(Role::System, "T"), message(Role::User, "a"),
                 message(Role::Assistant, " x\n\ny "), message(Role::User, "b")}),
      "System: S\nT\n\nUser: a\n\nAssistant: x\n\ny\n\nUser: b\n\nAssistant:");
  // A reply that is to be continued; users that nobody answered; a system text in between.
  EXPECT_EQ(prompt_of({message(Role::User, "a"), message(Role::Assistant, "x")}),
            "User: a\n\nAssistant: x");
  EXPECT_EQ(prompt_of({message(Role::User, "a"), message(Role::User, "b")}),
            "User: a\n\nUser: b\n\nAssistant:");
  EXPECT_EQ(prompt_of({message(Role::User, "a"), message(Role::System, "S")}),
            "User: a\n\nSystem: S\n\nAssistant:");
}

TEST(ServerChat, ATurnBeginsLikeTheOneBefore) {
  // What the model has read and said is the beginning of the next prompt: nothing is read twice.
  const std::vector<ChatMessage> first = {message(Role::System, "S"), message(Role::User, "a")};
  std::vector<ChatMessage> second = first;
  second.push_back(message(Role::Assistant, "x\n\ny"));
  second.push_back(message(Role::User, "b"));
  const std::string said = prompt_of(first) + " x\n\ny";
  EXPECT_EQ(prompt_of(second).substr(0, said.size()), said);
}

TEST(ServerChat, AsksForThinking) {
  ChatRequest request;
  request.messages = {message(Role::User, "a")};
  request.thinking = Thinking::Short;
  EXPECT_EQ(render_chat(request).text, "User: a (think a bit)\n\nAssistant: <think");
  EXPECT_EQ(render_chat(request).reply, " <think");
  request.wants_json = true;  // a thought is no JSON
  EXPECT_EQ(render_chat(request).text, "User: a\n\nAssistant:");
}

TEST(ServerChat, ShowsToolsTheirCallsAndResults) {
  EXPECT_EQ(
      tool_signature(weather()),
      "get_weather(place: string, unit?: \"celsius\" | \"fahrenheit\", days?: array<integer>)");
  ChatRequest request;
  request.tools = {weather()};
  request.tool_choice = ToolChoice::Required;
  request.messages = {message(Role::User, "a")};
  const std::string head =
      "System: Tools:\n- " + tool_signature(weather()) + "\nReturn only a JSON function call.\n\n";
  EXPECT_EQ(render_chat(request).text, head + "User: a\n\nAssistant: ```json\n");
  ChatMessage call = message(Role::Assistant, "");
  call.tool_calls = {{"1", "get_weather", R"({"place": "Oslo"})"}};
  request.messages = {message(Role::User, "a"), call, message(Role::Tool, "{1}"),
                      message(Role::Tool, "{2}")};
  EXPECT_EQ(render_chat(request).text,
            head +
                "User: a\n\nAssistant: ```json\n{\"name\": \"get_weather\", \"arguments\": "
                "{\"place\": \"Oslo\"}}\n```\n\nUser: Function output:\n{1}\n{2}\n\nAssistant: "
                "```json\n");
  request.tool_choice = ToolChoice::None;
  EXPECT_EQ(render_chat(request).text.find("Tools:"), std::string::npos);
}

// Whether a text, byte by byte, is one that a call of the tools can be.
bool may_call(const std::vector<Tool>& tools, std::string_view text) {
  const auto vocabulary = std::make_shared<const Tokenizer>(byte_tokens());
  const auto grammar = compile_json_schema(json_text(call_schema(tools)), vocabulary);
  const std::unique_ptr<TokenMask> mask = grammar->start();
  const auto allows = [&](TokenId token) {
    return (mask->allowed()[token / 64] >> (token % 64) & 1U) != 0;
  };
  for (const char byte : text) {
    const TokenId token = static_cast<unsigned char>(byte) + 1U;
    if (!allows(token)) return false;
    mask->accept(token);
  }
  return allows(0);
}

TEST(ServerChat, ReferencesOfToolsStayWithinTheirParameters) {
  const Tool route = {"route", "", Json::parse(R"({
      "type": "object", "required": ["from"], "additionalProperties": false,
      "properties": {"from": {"$ref": "#/$defs/place"}, "via": {"$ref": "#"},
                     "$ref": {"type": "null"}, "with": {"const": {"$ref": "#/$defs/place"}}},
      "$defs": {"place": {"type": "object", "required": ["x"], "additionalProperties": false,
                          "properties": {"x": {"$ref": "#/$defs/number"}}},
                "number": {"type": "integer"}}})")};
  const auto call = [](const std::string& arguments) {
    return R"({"name": "route", "arguments": )" + arguments + "}";
  };
  for (const std::vector<Tool>& tools :
       {std::vector{route}, std::vector{weather(), route}, std::vector{route, weather()}}) {
    EXPECT_TRUE(may_call(tools, call(R"({"from":{"x":1}})")));
    EXPECT_FALSE(may_call(tools, call(R"({"from":{"x":"a"}})")));
    EXPECT_FALSE(may_call(tools, call(R"({"from":1})")));
    EXPECT_TRUE(may_call(tools, call(R"({"from":{"x":1},"via":{"from":{"x":2}}})")));
    EXPECT_FALSE(may_call(tools, call(R"({"from":{"x":1},"via":{"name":"route"}})")));
    EXPECT_TRUE(may_call(tools, call(R"({"from":{"x":1},"$ref":null})")));
    EXPECT_TRUE(may_call(tools, call(R"({"from":{"x":1},"with":{"$ref":"#/$defs/place"}})")));
  }
}

TEST(ServerChat, TellsWhetherTheReplyGoesOnInWords) {
  const auto ends_in_words = [](std::vector<ChatMessage> messages) {
    ChatRequest request;
    request.messages = std::move(messages);
    return render_chat(request).ends_in_words;
  };
  const ChatMessage user = message(Role::User, "Count.");
  EXPECT_TRUE(ends_in_words({user, message(Role::Assistant, " one, two,")}));
  EXPECT_FALSE(ends_in_words({user, message(Role::Assistant, "one, two, ")}));
  EXPECT_FALSE(ends_in_words({user, message(Role::Assistant, "")}));
  EXPECT_FALSE(ends_in_words({user, message(Role::Assistant, "one"), user}));
  ChatMessage call = message(Role::Assistant, "Wait.");
  call.tool_calls = {{"1", "get_weather", "{}"}};
  EXPECT_FALSE(ends_in_words({user, call}));
}

struct Reply {
  std::string thinking, words;
  std::vector<ToolCall> calls;
};

// The reply in pieces of `size` bytes.
Reply stream(const std::string& text, std::vector<Tool> tools, std::size_t size) {
  ReplyStream reply(std::move(tools));
  Reply result;
  const auto add = [&](const ReplyStream::Piece& piece) {
    result.thinking += piece.thinking;
    result.words += piece.words;
  };
  for (std::size_t at = 0; at < text.size(); at += size) add(reply.push(text.substr(at, size)));
  add(reply.finish());
  result.calls = reply.tool_calls();
  return result;
}

TEST(ServerReply, TakesAReplyApartWhereverItIsCut) {
  const std::string call = R"({"name": "get_weather", "arguments": {"place": "Oslo"}})";
  struct Case {
    std::string text, thinking, words;
    std::size_t calls = 0;
    bool has_tools = false;
  };
  const Case cases[] = {
      {" Hello there. \n", "", "Hello there."},
      {" <think>\nHm. So.\n</think>\n\nYes.\n\nNo. ", "Hm. So.", "Yes.\n\nNo."},
      {" <think>\n</think>\nYes", "", "Yes"},
      {" <think>never ends ", "never ends", ""},
      {"<thing>", "", "<thing>"},
      {"a < b </think", "", "a < b </think"},
      {" ```json\n" + call + "\n```", "", "", 1, true},
      {call, "", "", 1, true},
      {"[" + call + "," + call + "]", "", "", 2, true},
      {"I will look.\n```json\n" + call + "\n```\n```json\n" + call + "\n```", "", "I will look.",
       2, true},
      {" <think>Hm</think>```json\n" + call, "Hm", "", 1, true},
      {" ```json\n{\"name\": \"other\"}\n```", "", "```json\n{\"name\": \"other\"}\n```", 0, true},
      {" ```json\n{\"name\"", "", "```json\n{\"name\"", 0, true},
      {"{no call}", "", "{no call}", 0, true},
      {" ```js\nx\n```", "", "```js\nx\n```", 0, true},
      {" ```json\n" + call + "\n```", "", "```json\n" + call + "\n```", 0, false},
  };
  for (const Case& each : cases) {
    for (const std::size_t size : {std::size_t{1}, std::size_t{3}, each.text.size()}) {
      SCOPED_TRACE(each.text + " in pieces of " + std::to_string(size));
      const Reply reply = stream(
          each.text, each.has_tools ? std::vector<Tool>{weather()} : std::vector<Tool>{}, size);
      EXPECT_EQ(reply.thinking, each.thinking);
      EXPECT_EQ(reply.words, each.words);
      ASSERT_EQ(reply.calls.size(), each.calls);
      for (const ToolCall& found : reply.calls) {
        EXPECT_EQ(found.name, "get_weather");
        EXPECT_EQ(found.arguments, R"({"place":"Oslo"})");
      }
    }
  }
}

TEST(ServerReply, FencesInStringsEndNoCall) {
  const std::string arguments = R"({"content":"# A\n```sh\nls \"x\\\n```\n```json\n{}\n```"})";
  const std::string call = R"({"name": "write", "arguments": )" + arguments + "}";
  const std::vector<Tool> tools = {{"write", "", Json::object()}};
  const std::string texts[] = {
      " ```json\n" + call,  // as where a call is forced
      " ```json\n" + call + "\n```",
      "```json" + call + "```",
      "```json\n" + call + "\n```\n```json\n" + call + "\n```\n",
      call,
  };
  for (const std::string& text : texts) {
    for (const std::size_t size : {std::size_t{1}, std::size_t{3}, text.size()}) {
      SCOPED_TRACE(text + " in pieces of " + std::to_string(size));
      const Reply reply = stream(text, tools, size);
      EXPECT_EQ(reply.words, "");
      ASSERT_EQ(reply.calls.size(), &text == &texts[3] ? 2U : 1U);
      for (const ToolCall& found : reply.calls) EXPECT_EQ(found.arguments, arguments);
    }
  }
  // A string that never ends takes no block after it along.
  const std::string broken = "```json\n{\"name\": \"write\n```\nWell.";
  EXPECT_EQ(stream(broken, tools, 1).words, broken);
}

TEST(ServerReply, KeepsWhiteSpaceAfterWordsThatItContinues) {
  for (const bool has_tools : {false, true}) {
    const auto reply = [&] {
      return ReplyStream(has_tools ? std::vector<Tool>{weather()} : std::vector<Tool>{}, true);
    };
    ReplyStream words = reply();
    EXPECT_EQ(words.push(" ").words, "");
    EXPECT_EQ(words.push("three ").words, " three");
    EXPECT_EQ(words.finish().words, "");
    ReplyStream braces = reply();
    std::string text = braces.push("\n{").words;
    text += braces.push(" x }").words;
    EXPECT_EQ(text + braces.finish().words, "\n{ x }");
    ReplyStream thinking = reply();
    ReplyStream::Piece piece = thinking.push(" <think> Hm.</think> Yes.");
    EXPECT_EQ(piece.thinking, "Hm.");
    EXPECT_EQ(piece.words, "Yes.");
  }
}

TEST(ServerReply, ShowsWordsAsSoonAsTheyAreCertain) {
  ReplyStream reply;
  EXPECT_EQ(reply.push(" One").words, "One");
  EXPECT_EQ(reply.push(" two ").words, " two");
  EXPECT_EQ(reply.push("three").words, " three");
  EXPECT_TRUE(reply.finish().empty());
}

TEST(ServerResponse, HasTheShapeOfOpenAis) {
  const ResponseHead head{Endpoint::Chat, "chatcmpl-1", "m", 5};
  EXPECT_EQ(chunk_event(head, "{\"index\":0}", ""),
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":5,"
            "\"model\":\"m\",\"choices\":[{\"index\":0}]}\n\n");
  // Newlines in a text would end an event.
  EXPECT_EQ(json_text(Json("a\n\nb")).find('\n'), std::string::npos);
  UsageSum usage;
  usage.add({.prompt_tokens = 10, .cached_tokens = 4, .generated_tokens = 3}, true);
  usage.add({.prompt_tokens = 10, .cached_tokens = 4, .generated_tokens = 2}, false);
  const Json json = usage_json(usage);
  EXPECT_EQ(json["prompt_tokens"], 10);
  EXPECT_EQ(json["completion_tokens"], 5);
  EXPECT_EQ(json["total_tokens"], 15);
  EXPECT_EQ(json["prompt_tokens_details"]["cached_tokens"], 4);
  EXPECT_EQ(finish_reason(FinishReason::Deadline, false), "length");
  EXPECT_EQ(finish_reason(FinishReason::EndOfText, true), "tool_calls");
}

}  // namespace
}  // namespace gander::server
