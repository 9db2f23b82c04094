#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/sampling.h"
#include "base/error.h"
#include "engine/serving/token_mask.h"
#include "model/state.h"

namespace gander {

/// Where a sequence of text stands: what Session::Snapshot holds, shared instead of copied. Nothing
/// changes it, so that a fork is another pointer to it.
struct SavedSequence {
  std::shared_ptr<const State> state;  ///< null: the beginning, nothing has been read
  std::vector<TokenId> tokens;         ///< that the model has read, token 0 included
  std::string pending;                 ///< text that it has not; read before what comes next
};

/// What to generate, and from what.
struct Request {
  /// Read first, or instead of it `tokens` as they are; after token 0 where nothing was read before
  /// and the tokens do not begin with it. With max_tokens = 0 the prompt is read and nothing
  /// generated: its end, which could still merge with what follows, stays pending.
  std::string prompt = {};
  std::vector<TokenId> tokens = {};
  /// Goes on from here; null: a new text. Such a text neither takes from the state cache nor goes
  /// into it, for nothing proves that its tokens are all that made its state.
  std::shared_ptr<const SavedSequence> start = nullptr;
  bool use_cache = true;  ///< take a state of the beginning from the state cache, and leave some
  bool keep_end = false;  ///< give the sequence's end with the finish; for one choice only

  SamplerSettings sampling = {};  ///< choice 0 has this seed, the others one made from it
  std::uint32_t choices = 1;      ///< texts generated from the prompt, which is read once
  std::uint32_t max_tokens = 256;
  std::vector<std::string> stops = {};  ///< a text ends before the first of these
  bool stop_at_end_of_text = true;      ///< at token 0
  /// Asks for the tokens with their log-probabilities, and for so many likeliest others.
  std::optional<std::uint32_t> top_logprobs = std::nullopt;
  std::unique_ptr<TokenMask> mask = nullptr;  ///< null: any token; every choice has a clone

  int priority = 0;  ///< higher ones are admitted, and their prompts read, before others
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

/// A token as it was chosen. Logarithms are natural, of the model's own distribution: at
/// temperature 1, before bias, penalties and mask.
struct TokenChoice {
  TokenId token = 0;
  float logprob = 0.0F;
  std::vector<std::pair<TokenId, float>> top = {};  ///< the likeliest, in order
};

enum class FinishReason {
  EndOfText,   ///< token 0, or the mask lets nothing but the end follow
  StopString,  ///< neither shown nor remembered
  Length,      ///< max_tokens
  Cancelled,   ///< by the ticket, by the sink, or because the engine ends
  Deadline,
  Error,  ///< Finish::error says which
};

inline constexpr std::size_t kFinishReasons = 6;

/// The name in lower case: "end_of_text", "stop_string" and so on.
std::string_view name(FinishReason reason);

struct Usage {
  std::uint32_t prompt_tokens = 0;     ///< of the whole prompt, token 0 included
  std::uint32_t cached_tokens = 0;     ///< of them, those the state cache had
  std::uint32_t generated_tokens = 0;  ///< of this choice; the token that ended it included
  double waiting_seconds = 0;          ///< from submit() to a slot
  double prompt_seconds = 0;           ///< from there to the first token
  double seconds = 0;                  ///< from there to the end
};

struct Finish {
  FinishReason reason = FinishReason::Length;
  Usage usage = {};
  std::string error = {};
  std::shared_ptr<const SavedSequence> end = nullptr;  ///< when Request::keep_end, unless Error
};

/// What a request's sink is told. Everything it points to is valid during the call only.
struct Event {
  std::uint32_t choice = 0;
  std::string_view text = {};                ///< valid UTF-8; may be empty
  std::span<const TokenChoice> tokens = {};  ///< when top_logprobs: those the text begins in
  const Finish* finish = nullptr;            ///< not null: the last event of this choice
};

/// Called on the scheduler's thread, so it must not block: it hands the event on and returns. False
/// cancels the request, and so does an exception; the finish of every choice comes all the same.
using Sink = std::function<bool(const Event&)>;

/// The queue is full, or the engine takes no more requests.
class Refused : public Error {
 public:
  Refused(const std::string& message, std::size_t waiting) : Error(message), waiting_(waiting) {}
  std::size_t waiting() const { return waiting_; }  ///< requests in the queue

 private:
  std::size_t waiting_;
};

}  // namespace gander
