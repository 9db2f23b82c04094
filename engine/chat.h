#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/session.h"

// Conversations in the template of RWKV World and G1 models:
//   System: ...\n\nUser: ...\n\nAssistant: ...\n\nUser: ...\n\nAssistant:
namespace gander {

/// What the assistant's turn begins with, and what is added to the user's.
enum class Thinking {
  None,    ///< "Assistant:"
  Fake,    ///< "Assistant: <think>\n</think": an empty thought, for models that think by default
  Free,    ///< "Assistant: <think": as long as the model likes
  Short,   ///< the same, and the user's text ends with " (think a bit)"
  Normal,  ///< " (think)"
  Long,    ///< " (think a lot)"
};

/// Text as it stands in a turn: CRLF and CR to LF, runs of newlines to one, no white space around.
/// An empty line would end the turn.
std::string clean_text(std::string_view text);

/// What ends a reply, besides token 0. Not a bare "\n\n", which stands between the paragraphs of
/// long answers, nor "\n\nUser" without its colon, which may begin a paragraph about users.
std::vector<std::string> chat_stops();

/// "System: text\n\n", or nothing for an empty text.
std::string system_turn(std::string_view text);
/// "User: text\n\nAssistant:", with what `thinking` adds to the user's text.
std::string user_turn(std::string_view text, Thinking thinking);
/// What follows "Assistant:" before the model goes on. The last > is left to the model: tokens
/// differ with it.
std::string_view thinking_prefix(Thinking thinking);

/// A reply in its parts.
struct Reply {
  std::string thinking;  ///< between <think> and </think>, without white space around
  std::string answer;    ///< the rest, without white space around
};
Reply split_reply(std::string_view text);

/// How many bytes at the end of `text` may be the beginning of `tag`: what a reply is shown without
/// as long as more comes.
std::size_t beginning_at_end(std::string_view text, std::string_view tag);

struct ChatTurn {
  std::string user, assistant;  ///< the answer, without its thinking
};

/// A conversation on a session. The state is kept from turn to turn; only a reply with thinking is
/// taken back and read again without it, as the models were trained.
class Conversation {
 public:
  /// Begins a conversation with a system text, which may be empty, on a session of its own.
  explicit Conversation(Session& session, std::string_view system = "");

  /// Adds the user's turn and generates the reply. options.stops are added to chat_stops().
  /// on_text is first given what thinking_prefix() put in the model's mouth, so that it shows
  /// the whole reply; result.text begins with it too. The sampler's penalties begin anew.
  /// Throws Error when the text is empty after cleaning.
  GenerateResult say(std::string_view text, Thinking thinking, Sampler& sampler,
                     const GenerateOptions& options, const Session::OnText& on_text);

  /// Takes the last reply back and generates another to the same text. The random sequence
  /// goes on, so it differs unless the sampler is greedy. Throws Error when there is no reply to
  /// take back.
  GenerateResult retry(Sampler& sampler, const GenerateOptions& options,
                       const Session::OnText& on_text);

  /// Starts again, with the same system text or another.
  void reset();
  void reset(std::string_view system);

  /// Writes the conversation to `path` / goes on from such a file, or from a session's or a
  /// state-tuned one, which have no turns to show. Throw Error; a failed load changes nothing.
  void save(const std::string& path) const;
  void load(const std::string& path);

  const std::vector<ChatTurn>& turns() const { return turns_; }
  const std::string& system() const { return system_; }

 private:
  GenerateResult reply(Sampler& sampler, const GenerateOptions& options,
                       const Session::OnText& on_text);

  Session& session_;
  std::string system_;
  std::vector<ChatTurn> turns_;

  // Of the last turn: the session after "Assistant:", before what the model said.
  std::optional<Session::Snapshot> before_reply_;
  Thinking thinking_ = Thinking::None;
};

}  // namespace gander
