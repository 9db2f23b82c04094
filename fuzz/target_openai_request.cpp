#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "apps/gander-server/api/chat_template.h"
#include "apps/gander-server/api/openai_request.h"
#include "apps/gander-server/api/reply_stream.h"
#include "fuzz/targets.h"

namespace gander {
namespace {

// The text as a reply, whole and byte by byte: what is shown does not depend on it.
void check_reply(std::string_view text, const std::vector<server::Tool>& tools) {
  server::ReplyStream whole(tools);
  server::ReplyStream cut(tools);
  std::string thinking[2];
  std::string words[2];
  const auto add = [&](int which, const server::ReplyStream::Piece& piece) {
    thinking[which] += piece.thinking;
    words[which] += piece.words;
  };
  add(0, whole.push(text));
  for (const char& c : text) add(1, cut.push({&c, 1}));
  add(0, whole.finish());
  add(1, cut.finish());
  if (thinking[0] != thinking[1] || words[0] != words[1]) std::abort();
  if (whole.tool_calls().size() != cut.tool_calls().size()) std::abort();
}

}  // namespace

// The bytes as a request's body, as a reply, and as a target.
void fuzz_openai_request(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const server::RequestLimits limits;
  std::vector<server::Tool> tools = {{"f", "", server::Json::object()}};
  try {
    const server::ChatRequest request = server::parse_chat_request(text, limits);
    const server::ChatPrompt prompt = server::render_chat(request);
    if (!prompt.text.ends_with(prompt.reply)) std::abort();
    if (!request.tools.empty()) tools = request.tools;
  } catch (const server::ApiError& error) {
    if (error.status() != 400 || server::error_json(error).empty()) std::abort();
  }
  try {
    server::parse_completion_request(text, limits);
  } catch (const server::ApiError&) {
  }
  check_reply(text.substr(0, 4096), tools);
  std::string path;
  server::decode_path(std::string(text), path);
}

}  // namespace gander
