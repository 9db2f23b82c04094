#include "engine/chat.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace gander {
namespace {

using nlohmann::json;

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";
constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";

std::string_view strip(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kWhiteSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhiteSpace) - begin + 1);
}

std::string_view thinking_suffix(Thinking thinking) {
  switch (thinking) {
    case Thinking::Short:
      return " (think a bit)";
    case Thinking::Normal:
      return " (think)";
    case Thinking::Long:
      return " (think a lot)";
    default:
      return {};
  }
}

}  // namespace

std::string clean_text(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\r') {
      if (i + 1 < text.size() && text[i + 1] == '\n') continue;
      c = '\n';
    }
    if (c == '\n' && clean.ends_with('\n')) continue;
    clean += c;
  }
  return std::string(strip(clean));
}

std::vector<std::string> chat_stops() {
  return {"\n\nUser:"};
}

std::string system_turn(std::string_view text) {
  const std::string clean = clean_text(text);
  return clean.empty() ? "" : "System: " + clean + "\n\n";
}

std::string user_turn(std::string_view text, Thinking thinking) {
  return fmt::format("User: {}{}\n\nAssistant:", clean_text(text), thinking_suffix(thinking));
}

std::string_view thinking_prefix(Thinking thinking) {
  switch (thinking) {
    case Thinking::None:
      return {};
    case Thinking::Fake:
      return " <think>\n</think";
    default:
      return " <think";
  }
}

Reply split_reply(std::string_view text) {
  text = strip(text);
  if (!text.starts_with(kOpen)) return {"", std::string(text)};
  text.remove_prefix(kOpen.size());
  // A thought that was cut short is no answer.
  const std::size_t end = std::min(text.find(kClose), text.size());
  Reply reply;
  reply.thinking = strip(text.substr(0, end));
  reply.answer = strip(text.substr(std::min(end + kClose.size(), text.size())));
  return reply;
}

std::size_t beginning_at_end(std::string_view text, std::string_view tag) {
  for (std::size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (text.ends_with(tag.substr(0, size))) return size;
  }
  return 0;
}

Conversation::Conversation(Session& session, std::string_view system)
    : session_(session), system_(system) {}

GenerateResult Conversation::say(std::string_view text, Thinking thinking, Sampler& sampler,
                                 const GenerateOptions& options, const Session::OnText& on_text) {
  const std::string clean = clean_text(text);
  if (clean.empty()) fail("the message is empty");
  const bool first = session_.tokens().empty() && session_.pending().empty();
  session_.append(first ? system_turn(system_) : "\n\n");
  session_.append(user_turn(clean, thinking));
  turns_.push_back({clean, ""});
  thinking_ = thinking;

  const auto start = std::chrono::steady_clock::now();
  const std::size_t tokens_before = session_.tokens().size();
  const bool finished = session_.advance(on_text);
  before_reply_ = session_.snapshot();
  const auto tokens = static_cast<std::uint32_t>(session_.tokens().size() - tokens_before);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  GenerateResult result;
  result.reason = StopReason::Cancelled;
  if (finished) result = reply(sampler, options, on_text);
  result.prompt_tokens += tokens;
  result.prompt_seconds += seconds.count();
  return result;
}

GenerateResult Conversation::retry(Sampler& sampler, const GenerateOptions& options,
                                   const Session::OnText& on_text) {
  if (!before_reply_) fail("there is no reply to try again");
  session_.restore(*before_reply_);
  return reply(sampler, options, on_text);
}

GenerateResult Conversation::reply(Sampler& sampler, const GenerateOptions& options,
                                   const Session::OnText& on_text) {
  const std::string_view prefix = thinking_prefix(thinking_);
  session_.append(prefix);
  GenerateOptions with_stops = options;
  for (std::string& stop : chat_stops()) with_stops.stops.push_back(std::move(stop));
  sampler.forget();
  if (!prefix.empty() && on_text) on_text(prefix);
  GenerateResult result = session_.generate(sampler, with_stops, on_text);
  result.text.insert(0, prefix);

  const Reply parts = split_reply(result.text);
  turns_.back().assistant = parts.answer;
  if (result.text.find(kOpen) != std::string::npos) {
    // Old turns stand in the history without their thinking.
    session_.restore(*before_reply_);
    if (!parts.answer.empty()) session_.append(" " + parts.answer);
  }
  return result;
}

void Conversation::reset() {
  session_.reset();
  turns_.clear();
  before_reply_.reset();
}

void Conversation::reset(std::string_view system) {
  system_ = system;
  reset();
}

void Conversation::save(const std::string& path) const {
  json turns = json::array();
  for (const ChatTurn& turn : turns_) {
    turns.push_back({{"user", turn.user}, {"assistant", turn.assistant}});
  }
  const json note = {{"chat", 1}, {"system", system_}, {"turns", turns}};
  save_session(path, session_, note.dump(-1, ' ', false, json::error_handler_t::replace));
}

void Conversation::load(const std::string& path) {
  const json note = json::parse(load_session(path, session_), nullptr, false);
  before_reply_.reset();
  turns_.clear();
  if (!note.is_object() || note.value("chat", json()) != json(1)) return;
  const auto text_of = [](const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
  };
  system_ = text_of(note, "system");
  const auto turns = note.find("turns");
  if (turns == note.end() || !turns->is_array()) return;
  for (const json& turn : *turns) {
    if (turn.is_object()) turns_.push_back({text_of(turn, "user"), text_of(turn, "assistant")});
  }
}

}  // namespace gander
