#include "engine/serving/scheduler.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"

namespace gander {
namespace {

// Fewer logits than this are gone through sooner than another thread has woken up.
constexpr std::size_t kLogitsWorthThreads = 16384;

// Of states that were let go and are given out again.
constexpr std::size_t kIdleStateBytes = std::size_t{64} << 20;

unsigned threads_for_sampling(unsigned wanted) {
  const unsigned cores = usable_cores();
  return wanted == 0 ? cores : std::min(wanted, cores);
}

std::size_t queued_bytes(const Submission& submission) {
  return submission.text.size() + submission.ids.size() * sizeof(TokenId);
}

// All that a request would have read.
std::string unread_text(const Submission& submission, const Tokenizer& tokenizer) {
  if (submission.request.tokens.empty()) return submission.text + submission.rest;
  std::string text;  // the request's tokens stand for it
  for (const TokenId token : submission.ids) text += tokenizer.bytes(token);
  return text;
}

// The end of a choice that never had a slot.
void finish_waiting(Submission& submission, std::uint32_t choice, FinishReason reason,
                    const Tokenizer& tokenizer, EngineCounters& counters) {
  Finish finish;
  finish.reason = reason;
  finish.usage.waiting_seconds =
      std::chrono::duration<double>(Submission::Clock::now() - submission.submitted).count();
  if (submission.request.keep_end) {
    SavedSequence end;
    if (submission.request.start) end = *submission.request.start;
    end.pending = unread_text(submission, tokenizer);
    finish.end = std::make_shared<const SavedSequence>(std::move(end));
  }
  counters.count(finish);
  submission.finish_choice(choice, finish);
}

}  // namespace

void share_prompt_budget(std::span<PromptShare> prompts, std::size_t budget, std::size_t turn) {
  for (PromptShare& prompt : prompts) prompt.count = 0;
  std::size_t first = 0;
  while (first < prompts.size() && budget > 0) {
    std::size_t last = first + 1;
    while (last < prompts.size() && prompts[last].priority == prompts[first].priority) ++last;
    const auto equals = prompts.subspan(first, last - first);
    const std::size_t share = std::max<std::size_t>(1, budget / equals.size());
    const auto give = [&budget](PromptShare& prompt, std::size_t most) {
      const std::size_t count = std::min({prompt.readable - prompt.count, most, budget});
      prompt.count += count;
      budget -= count;
    };
    for (std::size_t i = 0; i < equals.size(); ++i) give(equals[(turn + i) % equals.size()], share);
    for (PromptShare& prompt : equals) give(prompt, budget);
    first = last;
  }
}

Scheduler::Scheduler(const Model& model, std::unique_ptr<Backend> backend,
                     const EngineOptions& options, StateCache* cache)
    : model_(model),
      options_(options),
      backend_(std::move(backend)),
      cache_(cache),
      pool_(backend_->config(), kIdleStateBytes),
      vocab_size_(backend_->config().vocab_size),
      samplers_(threads_for_sampling(options.sampling_threads)),
      cache_thread_(cache, *backend_, pool_) {
  const SequenceContext context = {
      model_, *backend_, cache_, cache_thread_, pool_, options_.snapshot_every, counters_};
  const std::uint32_t slots = backend_->slots();
  sequences_.reserve(slots);
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    sequences_.emplace_back(context, slot);
    free_.push_back(slots - 1 - slot);
  }
  counters_.free_slots = slots;
  running_.reserve(slots);
  steps_.reserve(slots);
  stepped_.reserve(slots);
  readers_.reserve(slots);
  shares_.reserve(slots);
  choices_.reserve(slots);
  best_.resize(slots);
  thread_ = std::thread([this] { run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Scheduler::submit(std::shared_ptr<Submission> submission) {
  const std::size_t bytes = queued_bytes(*submission);
  {
    const std::lock_guard lock(mutex_);
    const std::size_t waiting = waiting_.size();
    // Those that free slots will take at once do not wait.
    if (is_draining_ || waiting >= options_.max_waiting + counters_.free_slots ||
        (waiting > 0 && waiting_bytes_ + bytes > options_.max_waiting_bytes)) {
      ++counters_.refused;
      if (is_draining_) throw Refused("the engine is shutting down and takes no requests", waiting);
      throw Refused(fmt::format("the queue is full: {} requests wait for one of {} slots; try "
                                "again later",
                                waiting, sequences_.size()),
                    waiting);
    }
    submission->order = arrived_++;
    submission->cancellations = cancellations_;
    submission->open_choices = submission->request.choices;
    earliest_deadline_ = std::min(earliest_deadline_, submission->request.deadline);
    waiting_bytes_ += bytes;
    ++counters_.requests;
    is_idle_ = false;
    const Place place = {-submission->request.priority, submission->order};
    waiting_.emplace(place, std::move(submission));
  }
  wake_.notify_one();
}

void Scheduler::drain() {
  const std::lock_guard lock(mutex_);
  is_draining_ = true;
}

bool Scheduler::wait_until_idle(std::chrono::duration<double> seconds) const {
  std::unique_lock lock(mutex_);
  return idle_changed_.wait_for(lock, seconds, [this] { return is_idle_; });
}

EngineStatistics Scheduler::statistics() const {
  EngineStatistics statistics;
  statistics.slots = static_cast<std::uint32_t>(sequences_.size());
  statistics.running = running_count_;
  statistics.requests = counters_.requests;
  statistics.refused = counters_.refused;
  statistics.prompt_tokens = counters_.prompt_tokens;
  statistics.cached_tokens = counters_.cached_tokens;
  statistics.generated_tokens = counters_.generated_tokens;
  statistics.steps = counters_.steps;
  std::ranges::copy(counters_.finished, statistics.finished.begin());
  const std::lock_guard lock(mutex_);
  statistics.waiting = waiting_.size();
  return statistics;
}

void Scheduler::run() {
  while (wait_for_work()) {
    drop_waiting(false);
    stop_some(false);
    admit();
    if (!running_.empty()) step();
  }
  end_all();
}

void Scheduler::end_all() {
  stop_some(true);
  for (Sequence* sequence : running_) sequence->finish_unread();
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return found_.size() == finding_; });
    std::ranges::move(found_, std::back_inserter(forks_));
  }
  for (const Admission& admission : forks_) {
    const std::uint32_t choice = admission.choice;
    // A prompt that was looked for has no other choices yet.
    const std::uint32_t last = choice == 0 ? admission.submission->request.choices : choice + 1;
    for (std::uint32_t i = choice; i < last; ++i) {
      finish_waiting(*admission.submission, i, FinishReason::Cancelled, *model_.tokenizer,
                     counters_);
    }
  }
  drop_waiting(true);
}

/// Sleeps while there is nothing to do. False when the engine ends.
bool Scheduler::wait_for_work() {
  std::unique_lock lock(mutex_);
  const auto has_work = [this] {
    return is_stopping_ || !running_.empty() || !found_.empty() ||
           (!free_.empty() && (!forks_.empty() || !waiting_.empty()));
  };
  if (!has_work()) {
    is_idle_ = finding_ == 0 && waiting_.empty();
    if (is_idle_) idle_changed_.notify_all();
    wake_.wait(lock, has_work);
  }
  return !is_stopping_;
}

/// Ends requests in the queue that were cancelled or are late, or all; choices too, but not when
/// all end.
void Scheduler::drop_waiting(bool all) {
  const std::uint64_t cancellations = *cancellations_;
  std::vector<std::pair<std::shared_ptr<Submission>, FinishReason>> dropped;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (!all && cancellations == cancellations_seen_ && now < earliest_deadline_) return;
    cancellations_seen_ = cancellations;
    earliest_deadline_ = Clock::time_point::max();
    for (auto entry = waiting_.begin(); entry != waiting_.end();) {
      const std::shared_ptr<Submission>& submission = entry->second;
      const bool is_late = submission->request.deadline <= now;
      if (all || submission->cancelled || is_late) {
        const bool by_deadline = is_late && !all && !submission->cancelled;
        dropped.emplace_back(submission,
                             by_deadline ? FinishReason::Deadline : FinishReason::Cancelled);
        waiting_bytes_ -= queued_bytes(*submission);
        entry = waiting_.erase(entry);
      } else {
        earliest_deadline_ = std::min(earliest_deadline_, submission->request.deadline);
        ++entry;
      }
    }
    for (const Admission& fork : forks_) {
      earliest_deadline_ = std::min(earliest_deadline_, fork.submission->request.deadline);
    }
  }
  for (const auto& [submission, reason] : dropped) {
    const std::uint32_t choices = submission->request.choices;
    for (std::uint32_t choice = 0; choice < choices; ++choice) {
      finish_waiting(*submission, choice, reason, *model_.tokenizer, counters_);
    }
  }
  if (!all) drop_forks();
}

void Scheduler::drop_forks() {
  const auto now = Clock::now();
  std::erase_if(forks_, [&](const Admission& fork) {
    Submission& submission = *fork.submission;
    const bool is_cancelled = submission.cancelled;
    if (!is_cancelled && submission.request.deadline > now) return false;
    finish_waiting(submission, fork.choice,
                   is_cancelled ? FinishReason::Cancelled : FinishReason::Deadline,
                   *model_.tokenizer, counters_);
    return true;
  });
}

std::uint32_t Scheduler::take_slot() {
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  --counters_.free_slots;
  return slot;
}

/// Gives free slots to those who wait. Where the cache is asked first, it answers later.
void Scheduler::admit() {
  while (!free_.empty() && !forks_.empty()) {
    admissions_.push_back(std::move(forks_.front()));
    forks_.pop_front();
    admissions_.back().slot = take_slot();
  }
  {
    const std::lock_guard lock(mutex_);
    finding_ -= found_.size();
    std::ranges::move(found_, std::back_inserter(admissions_));
    found_.clear();
    while (!free_.empty() && !waiting_.empty()) {
      Admission admission;
      admission.submission = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      waiting_bytes_ -= queued_bytes(*admission.submission);
      admission.slot = take_slot();
      const Request& request = admission.submission->request;
      admission.is_found = cache_ == nullptr || !request.use_cache || request.start != nullptr;
      admissions_.push_back(std::move(admission));
    }
  }
  for (Admission& admission : admissions_) begin(admission);
  admissions_.clear();
  release_finished();  // some had nothing to read
}

void Scheduler::begin(Admission& admission) {
  if (!admission.is_found) {
    ++finding_;
    const std::shared_ptr<const Submission> submission = admission.submission;
    cache_thread_.find(submission, [this, admission](std::optional<FoundState> found) mutable {
      admission.found = std::move(found);
      admission.is_found = true;
      {
        const std::lock_guard lock(mutex_);
        found_.push_back(std::move(admission));
      }
      wake_.notify_one();
    });
    return;
  }
  Sequence& sequence = sequences_[admission.slot];
  running_.push_back(&sequence);
  guarded(sequence, [&] {
    sequence.begin(admission.submission, admission.choice, std::move(admission.found));
  });
  queue_forks(admission.submission);
}

/// The other choices of a prompt that was read.
void Scheduler::queue_forks(const std::shared_ptr<Submission>& submission) {
  if (submission->forks_due > 0) {
    const std::lock_guard lock(mutex_);
    earliest_deadline_ = std::min(earliest_deadline_, submission->request.deadline);
  }
  for (; submission->forks_due > 0; --submission->forks_due) {
    const std::uint32_t choice = submission->request.choices - submission->forks_due;
    forks_.push_back({submission, choice, 0, std::nullopt, true});
  }
}

/// What goes wrong in one choice ends that one.
template <typename Work>
void Scheduler::guarded(Sequence& sequence, const Work& work) {
  std::string error;
  try {
    return work();
  } catch (const std::exception& exception) {
    error = exception.what();
  } catch (...) {
    error = "unknown error";
  }
  if (!sequence.is_free()) sequence.fail_with(error);
}

/// Ends sequences that were cancelled or are late, or all.
void Scheduler::stop_some(bool all) {
  const auto now = Clock::now();
  for (Sequence* sequence : running_) {
    if (sequence->is_free()) continue;
    const Submission& submission = sequence->submission();
    const bool is_cancelled = all || submission.cancelled;
    if (!is_cancelled && submission.request.deadline > now) continue;
    guarded(*sequence, [&] {
      sequence->stop(is_cancelled ? FinishReason::Cancelled : FinishReason::Deadline);
    });
  }
  release_finished();
}

void Scheduler::release_finished() {
  std::erase_if(running_, [this](const Sequence* sequence) {
    if (sequence->is_free()) free_.push_back(sequence->slot());
    return sequence->is_free();
  });
  running_count_ = static_cast<std::uint32_t>(running_.size());
}

void Scheduler::step() {
  make_step();
  if (!run_step()) return;
  ++counters_.steps;
  choices_.clear();
  std::size_t row = 0;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    Sequence& sequence = *stepped_[i];
    const bool chooses = steps_[i].which == Logits::Last;
    const std::shared_ptr<Submission> submission = sequence.shared_submission();
    guarded(sequence, [&] { sequence.read(steps_[i].tokens.size()); });
    queue_forks(submission);
    if (!chooses) continue;
    if (!sequence.is_free()) {
      choices_.push_back({&sequence, {}});
      if (sequence.backend_chooses()) {
        sequence.choose_given(best_[row]);
      } else {
        choices_.back().logits = std::span(logits_).subspan(row * vocab_size_, vocab_size_);
      }
    }
    ++row;
  }
  choose_tokens();
  for (const Choice& choice : choices_) {
    guarded(*choice.sequence, [&] { choice.sequence->take(); });
  }
}

/// A token of each sequence that has one to read, and some of the prompts.
void Scheduler::make_step() {
  steps_.clear();
  stepped_.clear();
  readers_.clear();
  for (Sequence* sequence : running_) {
    if (sequence->unread().size() > 1) {
      readers_.push_back(sequence);
    } else {
      add_step(*sequence, 1);
    }
  }
  std::ranges::sort(readers_, [](const Sequence* a, const Sequence* b) {
    const Submission& one = a->submission();
    const Submission& other = b->submission();
    return Place(-one.request.priority, one.order) < Place(-other.request.priority, other.order);
  });
  shares_.clear();
  for (const Sequence* reader : readers_) {
    shares_.push_back({reader->submission().request.priority, reader->readable(), 0});
  }
  share_prompt_budget(shares_, options_.prompt_chunk, counters_.steps);
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    if (shares_[i].count > 0) add_step(*readers_[i], shares_[i].count);
  }
}

void Scheduler::add_step(Sequence& sequence, std::size_t count) {
  const Logits which = sequence.chooses_after(count) ? Logits::Last : Logits::None;
  steps_.push_back({sequence.slot(), sequence.unread().first(count), which,
                    which == Logits::Last && sequence.backend_samples()});
  stepped_.push_back(&sequence);
}

/// False when the backend failed: then nobody's state is what it should be.
bool Scheduler::run_step() {
  std::size_t rows = 0;
  bool any_best = false;
  bool any_logits = false;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (steps_[i].which != Logits::Last) continue;
    ++rows;
    (stepped_[i]->backend_chooses() ? any_best : any_logits) = true;
  }
  if (any_logits && logits_.size() < rows * vocab_size_) logits_.resize(rows * vocab_size_);
  try {
    backend_->step(steps_, std::span(logits_).first(any_logits ? rows * vocab_size_ : 0),
                   std::span(best_).first(any_best ? rows : 0));
    return true;
  } catch (const std::exception& error) {
    for (Sequence* sequence : running_) sequence->fail_with(error.what());
    return false;
  }
}

void Scheduler::choose_tokens() {
  sampled_.clear();
  for (const Choice& choice : choices_) {
    if (!choice.logits.empty()) sampled_.push_back(choice);
  }
  const auto choose = [](const Choice& choice) { choice.sequence->choose(choice.logits); };
  if (sampled_.size() * vocab_size_ < kLogitsWorthThreads || sampled_.size() == 1) {
    std::ranges::for_each(sampled_, choose);
    return;
  }
  const std::span<const Choice> some = sampled_;
  samplers_.run([some, choose](Worker& worker) {
    worker.share(some.size(), [&](std::size_t i) { choose(some[i]); });
  });
}

}  // namespace gander
