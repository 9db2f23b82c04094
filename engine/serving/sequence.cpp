#include "engine/serving/sequence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "engine/serving/counters.h"

namespace gander {
namespace {

// Room for a text's tokens is reserved up to this many; a longer one doubles it now and then.
constexpr std::size_t kReservedForChoice = 4096;

// A prompt of which fewer tokens were new leaves no state at its end: they are read again sooner
// than a state is copied.
constexpr std::size_t kPromptWorthKeeping = 32;

double seconds_between(Submission::Clock::time_point from, Submission::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// The seed of a choice: that of the request for the first, for others mixed with their number as
/// SplitMix64 mixes its counter.
std::uint64_t choice_seed(std::uint64_t seed, std::uint32_t choice) {
  if (choice == 0) return seed;
  std::uint64_t z = seed + choice * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

bool is_allowed(std::span<const std::uint64_t> mask, TokenId token) {
  return token / 64 < mask.size() && (mask[token / 64] >> (token % 64) & 1U) != 0;
}

/// Gives tokens that are not allowed the logit of minus infinity. False when none is.
bool apply_mask(std::span<const std::uint64_t> mask, std::span<float> logits) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  bool any = false;
  for (std::size_t first = 0; first < logits.size(); first += 64) {
    const auto part = logits.subspan(first, std::min<std::size_t>(64, logits.size() - first));
    const std::uint64_t word = first / 64 < mask.size() ? mask[first / 64] : 0;
    if (word == ~std::uint64_t{0}) {
      any = true;
      continue;
    }
    for (std::size_t i = 0; i < part.size(); ++i) {
      if ((word >> i & 1U) == 0) {
        part[i] = kNever;
      } else {
        any = true;
      }
    }
  }
  return any;
}

bool is_plainly_greedy(const Request& request) {
  const SamplerSettings& s = request.sampling;
  return (s.temperature == 0.0F || s.top_k == 1) && s.repetition_penalty == 1.0F &&
         s.presence_penalty == 0.0F && s.frequency_penalty == 0.0F && s.logit_bias.empty() &&
         request.mask == nullptr && !request.top_logprobs;
}

}  // namespace

Sequence::Sequence(const SequenceContext& context, std::uint32_t slot)
    : context_(context), slot_(slot) {}

void Sequence::begin(std::shared_ptr<Submission> submission, std::uint32_t choice,
                     std::optional<FoundState> found) {
  submission_ = std::move(submission);
  const Request& request = submission_->request;
  choice_ = choice;
  phase_ = Phase::Reading;
  keeps_in_cache_ = context_.cache != nullptr && request.use_cache && request.start == nullptr;
  began_ = first_token_ = Submission::Clock::now();
  tokens_.clear();
  unread_.clear();
  unread_at_ = 0;
  pending_.clear();
  error_.clear();
  generated_ = 0;
  text_size_ = visible_size_ = 0;
  mark_ = {};
  end_ = nullptr;
  choices_.clear();
  choice_begins_.clear();
  mask_ = request.mask ? request.mask->clone() : nullptr;
  utf8_.finish();
  if (request.max_tokens > 0) {
    matcher_.emplace(request.stops);
    SamplerSettings sampling = request.sampling;
    sampling.seed = choice_seed(sampling.seed, choice);
    takes_best_ = is_plainly_greedy(request);
    if (!takes_best_ && sampler_) {
      sampler_->restart(std::move(sampling));
    } else if (!takes_best_) {
      sampler_.emplace(std::move(sampling), context_.backend.config().vocab_size,
                       context_.model.tokenizer.get());
    }
    backend_samples_ =
        !takes_best_ && mask_ == nullptr && !request.top_logprobs &&
        context_.backend.start_sampling(slot_, sampler_->settings(), sampler_->memory());
  }
  is_by_text_ = found && found->cached.by_text;
  if (choice == 0) {
    begin_prompt(found);
  } else {
    begin_from(*submission_->after_prompt, submission_->read_of_prompt);
    unread_.assign(1, submission_->last_of_prompt);
    leaves_prompt_state_ = false;
    usage_ = submission_->usage;
  }
  usage_.waiting_seconds = seconds_between(submission_->submitted, began_);
  tokens_.reserve(tokens_.size() + unread_.size() +
                  std::min<std::size_t>(request.max_tokens, kReservedForChoice));
  if (unread_.empty()) {  // nothing to read, nothing to generate
    reason_ = FinishReason::Length;
    pending_ = submission_->rest;
    finish();
  }
}

void Sequence::begin_from(StateCopy& copy, std::span<const TokenId> tokens) {
  copy.restore(slot_);
  tokens_.assign(tokens.begin(), tokens.end());
}

void Sequence::begin_prompt(const std::optional<FoundState>& found) {
  Submission& submission = *submission_;
  const std::vector<TokenId>& ids = submission.ids;
  const SavedSequence* const start = submission.request.start.get();
  if (found) {
    begin_from(*found->copy, found->cached.tokens);
  } else if (start != nullptr && start->state != nullptr) {
    context_.backend.write_state(*start->state, slot_);
    tokens_ = start->tokens;
  } else {
    context_.backend.reset(slot_);
  }
  if (is_by_text_) {
    const std::string_view text = submission.text;
    context_.model.tokenizer->encode(text.substr(found->cached.text_size), unread_);
  } else {
    const std::size_t read = found ? tokens_.size() : 0;
    unread_.assign(ids.begin() + static_cast<std::ptrdiff_t>(read), ids.end());
  }
  usage_ = {};
  usage_.cached_tokens = static_cast<std::uint32_t>(found ? tokens_.size() : 0);
  usage_.prompt_tokens = static_cast<std::uint32_t>(usage_.cached_tokens + unread_.size());
  context_.counters.cached_tokens += usage_.cached_tokens;
  submission.usage = usage_;
  const bool is_forked = submission.request.choices > 1;
  leaves_prompt_state_ = submission.request.max_tokens > 0 &&
                         (is_forked || (keeps_in_cache_ && unread_.size() > kPromptWorthKeeping));
  if (is_forked && unread_.size() == 1) keep_prompt_state();
}

std::size_t Sequence::readable() const {
  const std::size_t left = unread().size();
  if (phase_ != Phase::Reading) return left;
  std::size_t count = left;
  if (leaves_prompt_state_ && left > 1) count = left - 1;
  if (keeps_in_cache_ && context_.snapshot_every > 0) {
    count = std::min(count, context_.snapshot_every - tokens_.size() % context_.snapshot_every);
  }
  return count;
}

bool Sequence::chooses_after(std::size_t count) const {
  return phase_ != Phase::Settling && submission_->request.max_tokens > 0 &&
         count == unread().size();
}

std::shared_ptr<StateCopy> Sequence::copy_state() const {
  return std::make_shared<StateCopy>(context_.backend, slot_, context_.pool);
}

void Sequence::leave_in_cache(std::shared_ptr<StateCopy> copy, bool is_turn) {
  context_.cache_thread.keep(tokens_, std::move(copy), is_turn);
}

/// The state before the last token of the prompt: from there other choices begin, and the same
/// prompt once more, which needs the logits after that token.
void Sequence::keep_prompt_state() {
  Submission& submission = *submission_;
  std::shared_ptr<StateCopy> copy;
  if (keeps_in_cache_ && !tokens_.empty() && !context_.cache->contains(tokens_)) {
    copy = copy_state();
    leave_in_cache(copy, is_by_text_);
  }
  if (submission.request.choices > 1) {
    submission.read_of_prompt = tokens_;
    submission.last_of_prompt = unread().front();
    submission.after_prompt = copy != nullptr ? std::move(copy) : copy_state();
    submission.forks_due = submission.request.choices - 1;
  }
}

void Sequence::read(std::size_t count) {
  const auto part = unread().first(count);
  tokens_.insert(tokens_.end(), part.begin(), part.end());
  unread_at_ += count;
  const std::size_t left = unread().size();
  if (phase_ == Phase::Settling && left == 0) {
    finish();
  } else if (phase_ == Phase::Reading) {
    context_.counters.prompt_tokens += count;
    if (left == 1 && leaves_prompt_state_) {
      keep_prompt_state();
    } else if (left > 0 && keeps_in_cache_ && context_.snapshot_every > 0 &&
               tokens_.size() % context_.snapshot_every == 0) {
      if (!context_.cache->contains(tokens_)) leave_in_cache(copy_state(), false);
    } else if (left == 0 && submission_->request.max_tokens == 0) {
      reason_ = FinishReason::Length;
      pending_ = submission_->rest;
      finish();
    } else if (left == 0) {
      phase_ = Phase::Generating;
      first_token_ = Submission::Clock::now();
    }
  }
}

void Sequence::choose(std::span<float> logits) noexcept {
  try {
    choose_token(logits);
  } catch (const std::exception& error) {
    error_ = error.what();
  } catch (...) {
    error_ = "choosing a token failed";
  }
}

void Sequence::choose_token(std::span<float> logits) {
  const std::optional<std::uint32_t> top = submission_->request.top_logprobs;
  double log_sum = 0.0;
  if (top) log_sum = list_likeliest(logits, *top);
  std::span<const std::uint64_t> mask;
  if (mask_) {
    mask = mask_->allowed();
    if (!apply_mask(mask, logits)) fail("no token is allowed to follow the text so far");
  }
  chosen_ = sampler_->sample(logits);
  if (mask_ && !is_allowed(mask, chosen_)) {  // a bias of infinity
    chosen_ = static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
  }
  sampler_->accept(chosen_);
  if (top) {
    choices_.back().token = chosen_;
    choices_.back().logprob = static_cast<float>(double{logits[chosen_]} - log_sum);
  }
  if (mask_ && chosen_ != 0) mask_->accept(chosen_);
}

/// Adds a TokenChoice with the likeliest tokens, and returns log sum exp of the logits.
double Sequence::list_likeliest(std::span<const float> logits, std::size_t count) {
  const float largest = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double log_sum = largest + std::log(sum);
  TokenChoice choice;
  auto& top = choice.top;
  top.reserve(count + 1);
  for (TokenId token = 0; count > 0 && token < logits.size(); ++token) {
    if (top.size() == count && !(logits[token] > top.back().second)) continue;
    const auto place = std::ranges::upper_bound(top, logits[token], std::greater<>(),
                                                [](const auto& entry) { return entry.second; });
    top.insert(place, {token, logits[token]});
    if (top.size() > count) top.pop_back();
  }
  for (auto& [token, logit] : top) logit = static_cast<float>(double{logit} - log_sum);
  choices_.push_back(std::move(choice));
  choice_begins_.push_back(text_size_);
  return log_sum;
}

/// Tells the sink a piece of text, and the tokens that begin in what is visible, or all.
bool Sequence::show(std::string_view text, bool all) {
  std::size_t shown = choices_.size();
  if (!all) {
    shown = static_cast<std::size_t>(std::ranges::lower_bound(choice_begins_, visible_size_) -
                                     choice_begins_.begin());
  }
  if (text.empty() && shown == 0) return true;
  const bool go_on = submission_->tell({choice_, text, std::span(choices_).first(shown), nullptr});
  choices_.erase(choices_.begin(), choices_.begin() + static_cast<std::ptrdiff_t>(shown));
  choice_begins_.erase(choice_begins_.begin(),
                       choice_begins_.begin() + static_cast<std::ptrdiff_t>(shown));
  return go_on;
}

void Sequence::take() {
  if (!error_.empty()) return fail_with(std::exchange(error_, {}));
  const Request& request = submission_->request;
  const TokenId token = chosen_;
  ++generated_;
  ++context_.counters.generated_tokens;
  if (token == 0 && (request.stop_at_end_of_text || mask_)) {
    if (request.top_logprobs) {  // it is no part of the text
      choices_.pop_back();
      choice_begins_.pop_back();
    }
    show_rest();
    reason_ = FinishReason::EndOfText;
    return finish();
  }
  const std::string_view bytes = context_.model.tokenizer->bytes(token);
  const std::size_t size_before = text_size_;
  text_size_ += bytes.size();
  const bool stopped = matcher_->push(bytes);
  if (matcher_->held().empty()) {
    mark_ = {};
  } else if (!mark_.set) {
    mark_ = {true, tokens_.size(), size_before};
    if (!stopped && keeps_end()) mark_.copy = copy_state();
  }
  visible_size_ += matcher_->visible().size();
  const bool go_on = show(utf8_.push(matcher_->visible()), false);
  if (stopped || !go_on) {
    reason_ = stopped ? FinishReason::StopString : FinishReason::Cancelled;
    if (stopped) show(utf8_.finish(), false);
    if (!mark_.set) mark_ = {true, tokens_.size(), size_before};
    return go_back(token);
  }
  if (generated_ == request.max_tokens) {
    show_rest();
    reason_ = FinishReason::Length;
    pending_ = bytes;
    if (!bytes.empty() || !keeps_end()) return finish();
    phase_ = Phase::Settling;  // no text can bring this token back, so it is read
  }
  unread_.assign(1, token);
  unread_at_ = 0;
}

/// At the end of the text: what might have become a stop string, and an incomplete character.
void Sequence::show_rest() {
  visible_size_ = text_size_;
  show(utf8_.push(matcher_->held()), true);
  show(utf8_.finish(), true);
}

/// Makes the sequence end where its text does, at visible_size_: a stop string, or its unseen
/// beginning, is undone. `token` was chosen last and has not been read. The mark lies before that
/// point, in tokens and in text.
void Sequence::go_back(TokenId token) {
  if (!keeps_end()) return finish();
  unread_.assign(tokens_.begin() + static_cast<std::ptrdiff_t>(mark_.position), tokens_.end());
  unread_.push_back(token);
  unread_at_ = 0;
  std::size_t kept = 0;  // whole tokens before the point
  std::size_t size = mark_.text_size;
  const Tokenizer& tokenizer = *context_.model.tokenizer;
  while (kept < unread_.size()) {
    const std::size_t bytes = tokenizer.bytes(unread_[kept]).size();
    if (size + bytes > visible_size_) break;
    size += bytes;
    ++kept;
  }
  if (kept == unread_.size()) {
    // Everything stays (a cancellation that nothing hides behind): the last token waits.
    --kept;
    size -= tokenizer.bytes(unread_[kept]).size();
  }
  pending_ = tokenizer.bytes(unread_[kept]).substr(0, visible_size_ - size);
  unread_.resize(kept);
  if (mark_.copy != nullptr) {
    tokens_.resize(mark_.position);
    if (kept == 0) {
      end_ = std::move(mark_.copy);
    } else {
      mark_.copy->restore(slot_);
    }
  }
  phase_ = Phase::Settling;
  if (kept == 0) finish();
}

void Sequence::stop(FinishReason reason) {
  if (phase_ == Phase::Settling) return;  // its text has come to its end
  reason_ = reason;
  if (phase_ == Phase::Reading) {
    for (const TokenId token : unread()) pending_ += context_.model.tokenizer->bytes(token);
    pending_ += submission_->rest;
    return finish();
  }
  const TokenId token = unread().front();
  if (!mark_.set && keeps_end()) {
    const std::size_t size = context_.model.tokenizer->bytes(token).size();
    mark_ = {true, tokens_.size(), text_size_ - size};
  }
  go_back(token);
}

void Sequence::fail_with(const std::string& error) {
  reason_ = FinishReason::Error;
  error_ = error;
  finish();
}

void Sequence::finish_unread() {
  reason_ = FinishReason::Cancelled;
  error_.clear();
  keeps_in_cache_ = false;
  submission_->request.keep_end = false;
  finish();
}

void Sequence::finish() {
  usage_.generated_tokens = generated_;
  const auto now = Submission::Clock::now();
  usage_.prompt_seconds = seconds_between(began_, phase_ == Phase::Reading ? now : first_token_);
  usage_.seconds = phase_ == Phase::Reading ? 0.0 : seconds_between(first_token_, now);
  Finish finish{reason_, usage_, error_, nullptr};
  if (keeps_end() && reason_ != FinishReason::Error) {
    const std::shared_ptr<StateCopy> end = end_ != nullptr ? std::move(end_) : copy_state();
    if (keeps_in_cache_ && !tokens_.empty()) {
      // Where the prompt was not read to its end, what was read is its canonical beginning.
      const bool is_turn = phase_ != Phase::Reading || reason_ == FinishReason::Length;
      leave_in_cache(end, is_turn);
    }
    if (submission_->request.keep_end) {
      finish.end =
          std::make_shared<const SavedSequence>(SavedSequence{end->state(), tokens_, pending_});
    }
  }
  end_ = nullptr;
  mark_ = {};
  mask_ = nullptr;
  const std::shared_ptr<Submission> submission = std::move(submission_);
  submission_ = nullptr;
  ++context_.counters.free_slots;  // before it is told: who hears of it may ask for another
  // Without a prompt that was read there are no other choices to come.
  const std::uint32_t choices = submission->request.choices;
  const bool is_last = choice_ > 0 || submission->after_prompt != nullptr;
  for (std::uint32_t choice = choice_; choice < (is_last ? choice_ + 1 : choices); ++choice) {
    context_.counters.count(finish);
    submission->finish_choice(choice, finish);
  }
}

}  // namespace gander
