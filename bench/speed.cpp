// gander_speed: measures gander on request, so that a script can take turns with another engine.
// usage: gander_speed MODEL THREADS TOKENS
// TOKENS is a file of token ids. A line on stdin asks for one measurement, a line of JSON answers:
//   prefill N        reads the first N tokens at once, from the state of zeros
//   decode N SKIP    reads SKIP tokens, then N more one by one; only these are timed, and no more
//                    are read once that has taken ten seconds
//   logits N         the first 64 logits after N tokens
//   bandwidth        bytes per second that THREADS threads read from memory
// bench/llama_speed.c is the same for llama.cpp.
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "backend/backend.h"
#include "base/bandwidth.h"
#include "base/error.h"
#include "model/weights.h"

namespace gander {
namespace {

using Json = nlohmann::ordered_json;

double processor_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLongest{10};

// `work` returns how many tokens it has read.
template <typename Work>
Json timed(const Work& work) {
  const double processor = processor_seconds();
  const auto begin = Clock::now();
  const std::size_t tokens = work();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return {{"tokens_per_second", static_cast<double>(tokens) / seconds},
          {"seconds", seconds},
          {"processor_seconds", processor_seconds() - processor}};
}

class Engine {
 public:
  Engine(const std::string& path, unsigned threads, const std::string& tokens_path)
      : threads_(threads),
        weights_(std::make_shared<const Weights>(load_weights(open_checkpoint(path)))),
        backend_(create_backend("cpu", weights_, {threads})),
        logits_(weights_->config.vocab_size) {
    std::ifstream file(tokens_path);
    for (TokenId token = 0; file >> token;) tokens_.push_back(token % weights_->config.vocab_size);
    if (!file.eof()) fail("{} is no list of token ids", tokens_path);
  }

  Json describe() const {
    return {{"engine", "gander " GANDER_VERSION},
            {"backend", backend_->description()},
            {"bytes_per_token", bytes_per_token(*weights_)}};
  }

  Json answer(const std::string& line) {
    std::istringstream words(line);
    std::string what;
    std::size_t count = 0;
    std::size_t skip = 0;
    words >> what >> count >> skip;
    if (what == "bandwidth") return bandwidth();
    if (count == 0 || count + skip > tokens_.size()) {
      fail("cannot measure {}: there are {} tokens", line, tokens_.size());
    }
    const std::span<const TokenId> tokens = std::span(tokens_).first(count + skip);
    backend_->reset();
    if (what == "prefill") {
      return timed([&] {
        read(tokens);
        return count;
      });
    }
    if (what == "decode") {
      if (skip > 0) read(tokens.first(skip));
      return timed([&] {
        const auto end = Clock::now() + kLongest;
        std::size_t done = 0;
        while (done < count && Clock::now() < end) read(tokens.subspan(skip + done++, 1));
        return done;
      });
    }
    if (what == "logits") {
      read(tokens);
      return {{"logits", std::vector<float>(logits_.begin(), logits_.begin() + 64)}};
    }
    fail("unknown measurement {}", line);
  }

 private:
  void read(std::span<const TokenId> tokens) { backend_->forward(tokens, Logits::Last, logits_); }

  Json bandwidth() {
    if (!probe_) probe_.emplace(threads_);
    return {{"bytes_per_second", probe_->measure(2)},
            {"buffer_bytes", probe_->buffer_bytes()},
            {"cache_bytes", last_level_cache_bytes()}};
  }

  unsigned threads_;
  std::shared_ptr<const Weights> weights_;
  std::unique_ptr<Backend> backend_;
  std::vector<float> logits_;
  std::vector<TokenId> tokens_;
  std::optional<BandwidthProbe> probe_;
};

void serve(int count, char** arguments) {
  if (count != 4) fail("usage: gander_speed MODEL THREADS TOKENS");
  const int threads = std::atoi(arguments[2]);
  if (threads < 1) fail("{} is no number of threads", arguments[2]);
  Engine engine(arguments[1], static_cast<unsigned>(threads), arguments[3]);
  std::cout << engine.describe().dump() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << engine.answer(line).dump() << std::endl;
  }
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  try {
    gander::serve(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "gander_speed: {}\n", error.what());
    return 1;
  }
  return 0;
}
