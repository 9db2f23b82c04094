#include "engine/session.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "base/error.h"
#include "model/tokenizer/utf8_stream.h"

namespace gander {
namespace {

// Between two of these a prompt cannot be cancelled; a multiple of any backend's chunk.
constexpr std::size_t kPromptChunk = 512;
// Room for a generation's tokens and text is reserved up to this many tokens; a longer one lets its
// buffers double now and then.
constexpr std::size_t kReservedTokens = 1U << 16;
constexpr std::size_t kReservedBytesPerToken = 8;
// For what waits between calls: parts of a token.
constexpr std::size_t kReservedPending = 4096;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Session::Session(Model model, std::unique_ptr<Backend> backend)
    : model_(std::move(model)),
      backend_(std::move(backend)),
      logits_(backend_->config().vocab_size),
      mark_state_(backend_->config()) {
  pending_.reserve(kReservedPending);
}

void Session::append(std::string_view text) {
  require_tokenizer(model_);
  pending_ += text;
}

bool Session::advance(const OnText& on_text) {
  require_tokenizer(model_);
  evaluated_ = false;
  ids_.clear();
  if (tokens_.empty()) ids_.push_back(0);
  const std::size_t first = ids_.size();
  const std::size_t covered = model_.tokenizer->encode_stable(pending_, ids_);
  if (covered == pending_.size() && ids_.size() > first) ids_.pop_back();
  return ids_.size() == first || feed_pending(on_text);
}

/// Feeds ids_, which begin the pending text, and takes them from it. Returns false when cancelled.
bool Session::feed_pending(const OnText& on_text) {
  const std::size_t before = tokens_.size();
  const bool finished = feed(ids_, on_text);
  std::size_t size = 0;
  for (std::size_t i = before; i < tokens_.size(); ++i) {
    size += model_.tokenizer->bytes(tokens_[i]).size();
  }
  pending_.erase(0, size);
  return finished;
}

/// Feeds ids; leaves the logits after the last. Returns false when the callback, asked between
/// chunks, cancels: the first ids have then been fed, as tokens_ tells.
bool Session::feed(std::span<const TokenId> ids, const OnText& on_text) {
  while (!ids.empty()) {
    const auto chunk = ids.first(std::min(ids.size(), kPromptChunk));
    ids = ids.subspan(chunk.size());
    if (ids.empty()) {
      backend_->forward(chunk, Logits::Last, logits_);
    } else {
      backend_->forward(chunk, Logits::None, {});
    }
    tokens_.insert(tokens_.end(), chunk.begin(), chunk.end());
    if (!ids.empty() && on_text && !on_text({})) return false;
  }
  return true;
}

GenerateResult Session::generate(Sampler& sampler, const GenerateOptions& options,
                                 const OnText& on_text) {
  if (options.max_tokens == 0) fail("the number of tokens to generate must be at least 1");
  require_tokenizer(model_);
  if (pending_.empty() && !evaluated_) {
    fail("there is nothing to continue from: the prompt is empty, or the text came to its end");
  }
  StopMatcher matcher(options.stops);
  evaluated_ = false;
  Utf8Stream utf8;
  GenerateResult result;
  const auto start = std::chrono::steady_clock::now();
  ids_.clear();
  if (tokens_.empty()) ids_.push_back(0);
  model_.tokenizer->encode(pending_, ids_);  // nothing when it goes on from evaluate()
  const std::size_t tokens_before = tokens_.size();
  const bool prompt_finished = feed_pending(on_text);
  result.prompt_tokens = static_cast<std::uint32_t>(tokens_.size() - tokens_before);
  result.prompt_seconds = seconds_since(start);
  if (!prompt_finished) {
    result.reason = StopReason::Cancelled;
    return result;
  }

  const std::size_t reserved = std::min<std::size_t>(options.max_tokens, kReservedTokens);
  tokens_.reserve(tokens_.size() + reserved);
  result.text.reserve(reserved * kReservedBytesPerToken);
  const auto show = [&](std::string_view piece) {
    result.text += piece;
    return !on_text || on_text(piece);
  };
  // On a device that samples, the sequence runs ahead of tokens_. Where it is to go back to a token
  // inside a block, it does so by the block's beginning.
  std::optional<TokensAhead> ahead;
  Generator* const generator = backend_->generator();
  if (options.tokens_ahead > 0 && generator != nullptr && generator->supports(sampler.settings())) {
    ahead.emplace(*generator, sampler, options.max_tokens, options.tokens_ahead);
  }
  Mark block;
  Mark mark;
  std::size_t text_size = 0;     // bytes generated,
  std::size_t visible_size = 0;  // and those that no stop string can take away
  const auto next = [&] {
    if (!ahead) {
      const TokenId token = sampler.sample(logits_);
      sampler.accept(token);
      return token;
    }
    if (ahead->is_block_read()) {
      if (mark.set && !mark.is_saved) {
        ahead->read_block_state(mark_state_);
        mark.is_saved = true;
      }
      block = {true, tokens_.size(), text_size};
    }
    return ahead->next();
  };
  while (true) {
    const TokenId token = next();
    ++result.tokens;
    if (token == 0 && options.stop_at_end_of_text) {
      result.reason = StopReason::EndOfText;
      if (ahead) settle(*ahead, block);
      break;
    }
    const std::string_view bytes = model_.tokenizer->bytes(token);
    const std::size_t size_before = text_size;
    text_size += bytes.size();
    const bool stopped = matcher.push(bytes);
    if (matcher.held().empty()) {
      mark.set = false;
    } else if (!mark.set) {
      mark = ahead ? block : Mark{true, tokens_.size(), size_before};
      if (!ahead && !stopped) {
        backend_->read_state(mark_state_);
        mark.is_saved = true;
      }
    }
    visible_size += matcher.visible().size();
    bool go_on = false;
    try {
      go_on = show(utf8.push(matcher.visible()));
    } catch (...) {
      if (ahead) settle(*ahead, block);
      throw;
    }
    if (stopped || !go_on) {
      result.reason = stopped ? StopReason::StopString : StopReason::Cancelled;
      // A stop string, or its unseen beginning, is undone.
      if (!mark.set) mark = ahead ? block : Mark{true, tokens_.size(), size_before};
      if (ahead) {
        ahead->stop();
        if (!mark.is_saved) ahead->read_block_state(mark_state_);
        mark.is_saved = true;
      }
      go_back(mark, token, visible_size);
      break;
    }
    if (result.tokens == options.max_tokens) {
      result.reason = StopReason::Length;
      if (ahead) ahead->stop();  // and all tokens but this one are fed
      if (bytes.empty()) {       // no text can bring this token back
        feed({&token, 1}, nullptr);
      } else {
        pending_ = bytes;
      }
      break;
    }
    if (ahead) {
      tokens_.push_back(token);
    } else {
      feed({&token, 1}, nullptr);
    }
  }
  if (result.reason == StopReason::EndOfText || result.reason == StopReason::Length) {
    const std::string_view rest = utf8.push(matcher.held());
    if (!rest.empty()) show(rest);
  }
  const std::string_view rest = utf8.finish();
  if (!rest.empty()) show(rest);
  result.seconds = seconds_since(start) - result.prompt_seconds;
  return result;
}

/// Stops a device and takes it back from where it is to the end of tokens_, in the block it gave
/// last.
void Session::settle(TokensAhead& ahead, const Mark& block) {
  ahead.stop();
  ahead.read_block_state(mark_state_);
  backend_->write_state(mark_state_);
  ids_.assign(tokens_.begin() + static_cast<std::ptrdiff_t>(block.position), tokens_.end());
  tokens_.resize(block.position);
  feed(ids_, nullptr);
}

/// Makes the sequence end where the generated text has `text_size` bytes. `token` was sampled last
/// and has not been fed. The mark lies before that point, in tokens and in text.
void Session::go_back(const Mark& mark, TokenId token, std::size_t text_size) {
  ids_.assign(tokens_.begin() + static_cast<std::ptrdiff_t>(mark.position), tokens_.end());
  ids_.push_back(token);
  if (mark.is_saved) {
    backend_->write_state(mark_state_);
    tokens_.resize(mark.position);
  }
  std::size_t kept = 0;  // whole tokens before the point
  std::size_t size = mark.text_size;
  std::string_view bytes;
  while (kept < ids_.size()) {
    bytes = model_.tokenizer->bytes(ids_[kept]);
    if (size + bytes.size() > text_size) break;
    size += bytes.size();
    ++kept;
  }
  if (kept == ids_.size()) {
    // Everything stays (a cancellation that nothing hides behind): the last token waits, as ever.
    --kept;
    size -= bytes.size();
  }
  if (kept > 0) feed(std::span(ids_).first(kept), nullptr);
  pending_ = model_.tokenizer->bytes(ids_[kept]).substr(0, text_size - size);
}

std::span<const float> Session::evaluate(std::span<const TokenId> ids) {
  if (pending_.empty() && ids.empty()) fail("there are no tokens to evaluate");
  for (const TokenId id : ids) {
    if (id >= logits_.size()) {
      fail("there is no token {}: the model has {}, from 0", id, logits_.size());
    }
  }
  ids_.clear();
  if (!pending_.empty()) {
    if (tokens_.empty()) ids_.push_back(0);
    model_.tokenizer->encode(pending_, ids_);
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  feed(ids_, nullptr);
  pending_.clear();
  evaluated_ = true;
  return logits_;
}

Session::Snapshot Session::snapshot() const {
  Snapshot snapshot{State(backend_->config()), pending_, tokens_};
  backend_->read_state(snapshot.state);
  return snapshot;
}

void Session::restore(const Snapshot& snapshot) {
  if (!snapshot.state.fits(backend_->config())) {
    fail("the state is of a model of another shape; {} cannot go on from it", model_.path);
  }
  backend_->write_state(snapshot.state);
  evaluated_ = false;
  pending_ = snapshot.pending;
  tokens_ = snapshot.tokens;
}

void Session::reset() {
  backend_->reset();
  evaluated_ = false;
  pending_.clear();
  tokens_.clear();
}

}  // namespace gander
