#include "apps/gander-server/api/reply_stream.h"

#include <algorithm>
#include <utility>

#include "engine/chat.h"

namespace gander::server {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";
constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";
constexpr std::string_view kFence = "```json";

bool add_call(const Json& json, const std::vector<Tool>& tools, std::vector<ToolCall>& calls) {
  if (!json.is_object()) return false;
  const auto name = json.find("name");
  auto arguments = json.find("arguments");
  if (arguments == json.end()) arguments = json.find("parameters");
  if (name == json.end() || !name->is_string()) return false;
  const auto& word = name->get_ref<const std::string&>();
  if (std::ranges::none_of(tools, [&](const Tool& tool) { return tool.name == word; })) {
    return false;
  }
  std::string text = "{}";
  if (arguments != json.end()) {
    text = arguments->is_string() ? arguments->get<std::string>() : json_text(*arguments);
  }
  calls.push_back({"", word, std::move(text)});
  return true;
}

// Where the fence that closes a block of JSON stands: strings may hold fences, but no newline.
std::size_t end_of_block(std::string_view text) {
  bool is_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') {
      is_string = false;
    } else if (text[i] == '"') {
      is_string = !is_string;
    } else if (is_string) {
      i += text[i] == '\\' ? 1 : 0;
    } else if (text.substr(i).starts_with("```")) {
      return i;
    }
  }
  return text.size();
}

}  // namespace

std::vector<ToolCall> parse_tool_calls(std::string_view text, const std::vector<Tool>& tools) {
  std::vector<ToolCall> calls;
  bool is_fenced = false;
  while (true) {
    std::string_view block = text;
    // Plain JSON may hold a fence in a string.
    const bool is_plain = !is_fenced && Json::accept(text);
    const std::size_t fence = is_plain ? std::string_view::npos : text.find(kFence);
    if (fence != std::string_view::npos) {
      is_fenced = true;
      text.remove_prefix(fence + kFence.size());
      const std::size_t end = end_of_block(text);
      block = text.substr(0, end);
      text.remove_prefix(std::min(end + 3, text.size()));
    } else if (is_fenced) {
      return calls;
    }
    const Json json = Json::parse(block, nullptr, false);
    if (json.is_array() && !json.empty()) {
      for (const Json& call : json) {
        if (!add_call(call, tools, calls)) return {};
      }
    } else if (!add_call(json, tools, calls)) {
      return {};
    }
    if (!is_fenced) return calls;
  }
}

ReplyStream::ReplyStream(std::vector<Tool> tools, bool goes_on)
    : tools_(std::move(tools)), is_begun_(goes_on) {}

ReplyStream::Piece ReplyStream::push(std::string_view text) {
  buffer_ += text;
  Piece piece;
  take(false, piece);
  return piece;
}

ReplyStream::Piece ReplyStream::finish() {
  Piece piece;
  take(true, piece);
  if (part_ == Part::Calls) {
    tool_calls_ = parse_tool_calls(buffer_, tools_);
    if (tool_calls_.empty()) {
      part_ = Part::Words;
      show(buffer_.size(), true, piece.words);
    }
    buffer_.clear();
  }
  return piece;
}

// Goes from part to part as far as the buffer tells.
void ReplyStream::take(bool is_end, Piece& piece) {
  if (part_ == Part::Beginning) {
    const std::string_view rest = std::string_view(buffer_).substr(
        std::min(buffer_.find_first_not_of(kSpace), buffer_.size()));
    if (rest.starts_with(kThink)) {
      buffer_.erase(0, buffer_.size() - rest.size() + kThink.size());
      part_ = Part::Thinking;
      is_begun_ = false;
    } else if (is_end || !kThink.starts_with(rest)) {
      // JSON without a fence is looked at as a whole too.
      part_ = !tools_.empty() && (rest.starts_with('{') || rest.starts_with('[')) ? Part::Calls
                                                                                  : Part::Words;
    } else {
      return;
    }
  }
  if (part_ == Part::Thinking) {
    const std::size_t end = buffer_.find(kEndThink);
    if (end == std::string::npos) {
      show(buffer_.size() - (is_end ? 0 : beginning_at_end(buffer_, kEndThink)), is_end,
           piece.thinking);
      return;
    }
    show(end, true, piece.thinking);
    buffer_.erase(0, kEndThink.size());
    part_ = Part::Words;
    is_begun_ = false;
  }
  if (part_ == Part::Words) {
    const std::size_t fence = tools_.empty() ? std::string::npos : buffer_.find(kFence);
    if (fence != std::string::npos) {
      show(fence, true, piece.words);
      part_ = Part::Calls;
    } else {
      const std::size_t held = is_end || tools_.empty() ? 0 : beginning_at_end(buffer_, kFence);
      show(buffer_.size() - held, is_end, piece.words);
    }
  }
}

// Moves so many bytes of the buffer out, without white space at the beginning of the part, and
// without what may be its end.
void ReplyStream::show(std::size_t size, bool is_end, std::string& out) {
  const std::string_view text = std::string_view(buffer_).substr(0, size);
  std::size_t begin = 0;
  if (!is_begun_) begin = std::min(text.find_first_not_of(kSpace), text.size());
  std::size_t end = text.find_last_not_of(kSpace);
  end = end == std::string_view::npos ? begin : std::max(end + 1, begin);
  if (end > begin) is_begun_ = true;
  out.append(text.substr(begin, end - begin));
  buffer_.erase(0, is_end ? size : std::max(end, begin));
}

}  // namespace gander::server
