#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/gander-server/api/openai_request.h"
#include "apps/gander-server/api/openai_response.h"
#include "apps/gander-server/api/reply_stream.h"
#include "apps/gander-server/mailbox.h"
#include "engine/serving/engine.h"

namespace gander::server {

/// One of the texts that a request asked for.
struct Choice {
  ReplyStream reply = ReplyStream();  ///< of a chat
  std::string thinking = {}, words = {};
  std::vector<TokenChoice> tokens = {};
  std::optional<Finish> finish = std::nullopt;
  bool is_begun = false;            ///< a chunk of it was sent
  std::size_t logprobs_offset = 0;  ///< bytes of tokens whose logprobs were sent
};

/// A request that is being answered: events of the engine go in, JSON comes out. When it goes, its
/// texts are cancelled.
struct Generation {
  Generation() = default;
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  ResponseHead head = {};
  GenerationFields fields = {};
  std::string state = {};  ///< the engine's name of the state that the end goes into; empty: none
  std::shared_ptr<Mailbox> mailbox = nullptr;
  std::vector<Ticket> tickets = {};
  std::vector<Choice> choices = {};
  std::size_t open = 0;  ///< choices without a finish
  UsageSum usage = {};
};

/// Adds an event to its choice and returns what it adds to the text. Throws ApiError when the text
/// ended for a reason that is no end: an error, or a cancellation.
ReplyStream::Piece take(Generation& generation, OwnedEvent event);

/// The same for a streamed response: the events' chunks as server-sent events.
std::string take_as_chunks(Generation& generation, std::vector<OwnedEvent> events,
                           const Tokenizer& tokenizer);
/// What follows the last chunk.
std::string last_chunks(const Generation& generation);

/// All choices of a response that is sent whole.
Json choices_json(const Generation& generation, const Tokenizer& tokenizer);

}  // namespace gander::server
