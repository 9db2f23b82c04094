#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/serving/engine.h"

namespace gander {

/// What an engine told about the choices of a request.
class Heard {
 public:
  struct Choice {
    std::string text;
    std::vector<TokenChoice> tokens;
    Finish finish;
    int finishes = 0;
    int events_after_finish = 0;
  };

  /// For submit(); it keeps this alive. `limit`: the sink refuses after so many events with text.
  static Sink sink(const std::shared_ptr<Heard>& heard, std::size_t limit = ~std::size_t{0});

  /// After the ticket was waited for.
  const Choice& choice(std::uint32_t choice = 0) { return choices_[choice]; }
  std::size_t choices() const { return choices_.size(); }

  /// While it runs: waits until so many bytes came.
  void wait_for_text(std::size_t bytes);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t bytes_ = 0, events_ = 0;
  std::map<std::uint32_t, Choice> choices_;
};

/// Submits, waits, and returns what was heard of choice 0.
Heard::Choice run_alone(Engine& engine, Request request);

}  // namespace gander
