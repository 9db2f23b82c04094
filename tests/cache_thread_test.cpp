#include "engine/serving/cache_thread.h"

#include <gtest/gtest.h>

#include <latch>
#include <mutex>
#include <string>
#include <vector>

#include "engine/cache/state_cache.h"
#include "tests/support/cached_states.h"

namespace gander {
namespace {

/// Writes down what happens, in its order.
class Journal {
 public:
  void add(const std::string& entry) {
    const std::lock_guard lock(mutex_);
    entries_.push_back(entry);
  }
  std::vector<std::string> entries() const {
    const std::lock_guard lock(mutex_);
    return entries_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> entries_;
};

/// A backend that only holds states: the one held as number i is called names[i].
class HoldingBackend final : public Backend {
 public:
  HoldingBackend(const Config& config, Journal& journal) : config_(config), journal_(journal) {}

  const Config& config() const override { return config_; }
  std::string description() const override { return "holding"; }
  void forward(std::span<const TokenId>, Logits, std::span<float>) override {}
  std::uint32_t slots() const override { return slot_count; }
  void step(std::span<const SequenceStep>, std::span<float>, std::span<TokenId>) override {}
  void read_state(State&, std::uint32_t) const override { ADD_FAILURE() << "all are held"; }
  void write_state(const State&, std::uint32_t) override {}
  void reset(std::uint32_t) override {}
  std::unique_ptr<HeldState> hold_state(std::uint32_t) override;

  std::uint32_t slot_count = 8;
  std::string next_name;
  std::latch first_begun{1}, first_may_end{1};

 private:
  class Held;

  Config config_;
  Journal& journal_;
};

class HoldingBackend::Held final : public HeldState {
 public:
  Held(HoldingBackend& backend, std::string name) : backend_(backend), name_(std::move(name)) {}
  void read(State&) const override {
    if (name_ == "first") {
      backend_.first_begun.count_down();
      backend_.first_may_end.wait();
    }
    backend_.journal_.add("read " + name_);
  }
  void write_to(std::uint32_t) const override {}

 private:
  HoldingBackend& backend_;
  std::string name_;
};

std::unique_ptr<HeldState> HoldingBackend::hold_state(std::uint32_t) {
  return std::make_unique<Held>(*this, next_name);
}

std::shared_ptr<const Submission> question(const Model& model, const std::string& text) {
  auto submission = std::make_shared<Submission>();
  submission->text = text;
  submission->ids = prompt_tokens(model, text);
  return submission;
}

/// A cache's thread over a backend of so many slots. The first state it is given is being read
/// until the backend lets it end.
struct Given {
  explicit Given(std::uint32_t slots) {
    backend.slot_count = slots;
    thread.emplace(&cache, backend, pool);
    keep("first", "one thing", true);
    backend.first_begun.wait();
  }
  void keep(const std::string& name, const std::string& text, bool is_turn) {
    backend.next_name = name;
    thread->keep(prompt_tokens(model, text), std::make_shared<StateCopy>(backend, 0, pool),
                 is_turn);
  }
  /// Ends the thread, which keeps what it was given even so.
  std::vector<std::string> end() {
    thread.reset();
    return journal.entries();
  }

  const Model model = shape_of_model();
  Journal journal;
  HoldingBackend backend{model.config(), journal};
  StatePool pool{model.config(), 0};
  StateCache cache{model};
  std::optional<CacheThread> thread;
};

// While the first state is being read more are given, and asked for.
TEST(CacheThread, QuestionsWaitOnlyForWhatTheyMayBeAnsweredWith) {
  Given given(8);
  std::latch answered{2};
  const auto find = [&](const std::string& name, const std::string& text) {
    given.thread->find(question(given.model, text), [&, name](std::optional<FoundState> found) {
      given.journal.add(name + (found ? " found" : " not found"));
      answered.count_down();
    });
  };
  given.keep("other", "something else", true);
  given.keep("snapshot", "a long", false);
  given.keep("turn", "a long text", true);
  find("unknown", "nobody said this");
  find("known", "a long text and more");
  given.backend.first_may_end.count_down();
  answered.wait();
  const std::vector<std::string> expected = {"read first", "unknown not found", "read snapshot",
                                             "read turn",  "known found",       "read other"};
  EXPECT_EQ(given.end(), expected);
  EXPECT_EQ(given.cache.statistics().memory_states, 4U);
}

// Of more than four a slot one is given up: one that is no turn, else the oldest.
TEST(CacheThread, WhatWaitsHasALimit) {
  Given given(1);
  given.keep("turn 1", "turn 1", true);
  given.keep("snapshot", "snapshot", false);
  for (const char* name : {"turn 2", "turn 3", "turn 4", "turn 5"}) given.keep(name, name, true);
  given.backend.first_may_end.count_down();
  const std::vector<std::string> expected = {"read first", "read turn 2", "read turn 3",
                                             "read turn 4", "read turn 5"};
  EXPECT_EQ(given.end(), expected);
}

// Where many wait, each question lets one of them through.
TEST(CacheThread, QuestionsDoNotKeepManyWaiting) {
  Given given(1);
  std::latch answered{3};
  for (const char* name : {"turn 1", "turn 2", "turn 3"}) given.keep(name, name, true);
  for (int i = 0; i < 3; ++i) {
    given.thread->find(question(given.model, "unknown"), [&](const std::optional<FoundState>&) {
      given.journal.add("answer");
      answered.count_down();
    });
  }
  given.backend.first_may_end.count_down();
  answered.wait();
  const std::vector<std::string> expected = {"read first",  "answer", "read turn 1", "answer",
                                             "read turn 2", "answer", "read turn 3"};
  EXPECT_EQ(given.end(), expected);
}

}  // namespace
}  // namespace gander
