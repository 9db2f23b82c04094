#include "engine/serving/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/memory.h"
#include "engine/sampler.h"
#include "engine/serving/scheduler.h"
#include "engine/serving/submission.h"
#include "engine/stop_matcher.h"

namespace gander {
namespace {

void check_tokens(std::span<const TokenId> tokens, std::uint32_t vocab_size) {
  for (const TokenId token : tokens) {
    if (token >= vocab_size) {
      fail("there is no token {}: the model has {}, from 0", token, vocab_size);
    }
  }
}

void check_request(const Request& request, const Model& model, const EngineOptions& options) {
  const Config& config = model.config();
  if (!request.prompt.empty() && !request.tokens.empty()) {
    fail("a request has a prompt or tokens, not both");
  }
  if (request.choices == 0 || request.choices > options.max_choices) {
    fail("the number of choices is {}; it must be from 1 to {}", request.choices,
         options.max_choices);
  }
  if (request.choices > 1 && (request.keep_end || request.max_tokens == 0)) {
    fail("with {} choices something must be generated, and none of their ends can be kept",
         request.choices);
  }
  if (request.top_logprobs && *request.top_logprobs > options.max_top_logprobs) {
    fail("{} log-probabilities a token are asked for; there are at most {}", *request.top_logprobs,
         options.max_top_logprobs);
  }
  check_sampling(request.sampling, config.vocab_size);
  const StopMatcher matcher(request.stops);
  check_tokens(request.tokens, config.vocab_size);
  if (request.start == nullptr) return;
  if (request.start->state != nullptr && !request.start->state->fits(config)) {
    fail("the state is of a model of another shape; {} cannot go on from it", model.path);
  }
  if (request.start->state == nullptr && !request.start->tokens.empty()) {
    fail("a sequence that has read tokens needs its state");
  }
  check_tokens(request.start->tokens, config.vocab_size);
}

// Sets what is to be read.
void encode_prompt(Submission& submission, const Tokenizer& tokenizer) {
  const Request& request = submission.request;
  const SavedSequence* start = request.start.get();
  const bool is_new = start == nullptr || start->tokens.empty();
  std::vector<TokenId>& ids = submission.ids;
  if (start != nullptr) submission.text = start->pending;
  submission.text += request.prompt;
  if (submission.text.empty() && request.tokens.empty()) {
    fail("there is nothing to continue from: the prompt is empty");
  }
  if (is_new && (request.tokens.empty() || request.tokens.front() != 0)) ids.push_back(0);
  if (request.max_tokens > 0 || !request.tokens.empty()) {
    tokenizer.encode(submission.text, ids);
    ids.insert(ids.end(), request.tokens.begin(), request.tokens.end());
    if (!request.tokens.empty()) submission.text.clear();  // the tokens stand, not their text
    return;
  }
  // What no later text can change, less a token: the logits after it are needed to go on.
  const std::size_t first = ids.size();
  std::size_t covered = tokenizer.encode_stable(submission.text, ids);
  if (covered == submission.text.size() && ids.size() > first) {
    covered -= tokenizer.bytes(ids.back()).size();
    ids.pop_back();
  }
  submission.rest = submission.text.substr(covered);
  submission.text.resize(covered);
  if (ids.size() == first) ids.clear();  // nothing but token 0
}

}  // namespace

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::EndOfText:
      return "end_of_text";
    case FinishReason::StopString:
      return "stop_string";
    case FinishReason::Length:
      return "length";
    case FinishReason::Cancelled:
      return "cancelled";
    case FinishReason::Deadline:
      return "deadline";
    case FinishReason::Error:
      return "error";
  }
  return "error";
}

Ticket::Ticket(std::shared_ptr<Submission> submission) : submission_(std::move(submission)) {}

void Ticket::cancel() {
  if (submission_) submission_->cancel();
}

void Ticket::wait() const {
  if (!submission_) return;
  std::unique_lock lock(submission_->mutex);
  submission_->over_changed.wait(lock, [this] { return submission_->is_over; });
}

bool Ticket::wait_for(std::chrono::duration<double> seconds) const {
  if (!submission_) return true;
  std::unique_lock lock(submission_->mutex);
  return submission_->over_changed.wait_for(lock, seconds, [this] { return submission_->is_over; });
}

Engine::Engine(Model model, std::unique_ptr<Backend> backend, const EngineOptions& options,
               StateCache* cache)
    : model_(std::move(model)), options_(options), states_(model_, options.named_state_bytes) {
  require_tokenizer(model_);
  if (options.prompt_chunk == 0) fail("a step must read at least one token of prompts");
  scheduler_ = std::make_unique<Scheduler>(model_, std::move(backend), options, cache);
}

Engine::~Engine() = default;

Ticket Engine::submit(Request request, Sink sink) {
  check_request(request, model_, options_);
  if (!sink) fail("a request needs a sink for its text");
  auto submission = std::make_shared<Submission>();
  submission->request = std::move(request);
  submission->sink = std::move(sink);
  encode_prompt(*submission, *model_.tokenizer);
  scheduler_->submit(submission);
  return Ticket(std::move(submission));
}

void Engine::drain() {
  scheduler_->drain();
}

bool Engine::wait_until_idle(std::chrono::duration<double> seconds) const {
  return scheduler_->wait_until_idle(seconds);
}

std::uint32_t Engine::slots() const {
  return scheduler_->backend().slots();
}

std::string Engine::backend_description() const {
  return scheduler_->backend().description();
}

EngineStatistics Engine::statistics() const {
  return scheduler_->statistics();
}

std::uint64_t bytes_per_slot(const Config& config) {
  // The sampler: logits, weights, counts, candidates and what was seen.
  constexpr std::uint64_t kSamplerBytes = 32;
  return 2 * State::bytes(config) + (sizeof(float) + kSamplerBytes) * config.vocab_size;
}

std::uint32_t slots_that_fit(const Model& model, std::uint32_t wanted) {
  const std::uint64_t available = available_memory();
  if (available == 0) return std::max(1U, wanted);
  const std::uint64_t used = required_memory(model);
  const std::uint64_t left = available > used ? available - used : 0;
  const std::uint64_t fit = left / 2 / bytes_per_slot(model.config());
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(fit, 1, std::max(1U, wanted)));
}

}  // namespace gander
