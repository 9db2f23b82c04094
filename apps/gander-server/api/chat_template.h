#pragma once

#include <string>
#include <vector>

#include "apps/gander-server/api/openai_request.h"

// Conversations as the G1 models were trained to read them: engine/chat.h, with tools.
namespace gander::server {

/// A tool as a line of text: get_weather(location: string, unit?: "celsius" | "fahrenheit").
std::string tool_signature(const Tool& tool);

/// A call as it stands in an assistant's turn: ```json, {"name", "arguments"}, ```.
std::string tool_call_text(const ToolCall& call);

/// What a call of one of the tools must be: {"name": the tool's, "arguments": by its schema}.
Json call_schema(const std::vector<Tool>& tools);

struct ChatPrompt {
  std::string text;   ///< to be read, all of it
  std::string reply;  ///< the end of `text` that the reply begins with: " <think", or " ```json\n"
  bool ends_in_words = false;  ///< of the assistant, just as the client wrote them
};

/// The prompt for a reply. `goes_on`: the turns follow what a named state has read. When the last
/// message is the assistant's, its text is continued.
ChatPrompt render_chat(const ChatRequest& request, bool goes_on = false);

/// How the request may think: not at all where the reply must be JSON.
Thinking thinking_of(const ChatRequest& request);

}  // namespace gander::server
