#include <gtest/gtest.h>

#include <string>

#include "apps/gander-server/api/chat_template.h"
#include "apps/gander-server/api/openai_response.h"
#include "apps/gander-server/api/reply_stream.h"

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
