// The public interface over the engine. It has classes of the same names as the engine's, in an
// inline namespace; so here the engine's get other names before the public header comes.

#include <optional>
#include <utility>

#include "base/error.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace gander::engine {

using EngineError = gander::Error;
using EngineModel = gander::Model;
using EngineSession = gander::Session;

}  // namespace gander::engine

#include "gander/gander.hpp"

namespace gander {
inline namespace v1 {
namespace {

using engine::EngineError;
using engine::EngineModel;
using engine::EngineSession;

/// Runs `work`, and turns the engine's errors into those of the public interface.
template <typename Work>
auto translated(const Work& work) {
  try {
    return work();
  } catch (const EngineError& error) {
    throw v1::Error(error.what());
  }
}

SamplerSettings settings_of(const Sampling& sampling) {
  SamplerSettings settings;
  settings.temperature = sampling.temperature;
  settings.top_k = sampling.top_k;
  settings.top_p = sampling.top_p;
  settings.min_p = sampling.min_p;
  settings.typical_p = sampling.typical_p;
  settings.repetition_penalty = sampling.repetition_penalty;
  settings.presence_penalty = sampling.presence_penalty;
  settings.frequency_penalty = sampling.frequency_penalty;
  settings.penalty_decay = sampling.penalty_decay;
  settings.logit_bias = sampling.logit_bias;
  settings.seed = sampling.seed;
  return settings;
}

Ending ending_of(StopReason reason) {
  switch (reason) {
    case StopReason::EndOfText:
      return Ending::EndOfText;
    case StopReason::StopString:
      return Ending::StopString;
    case StopReason::Length:
      return Ending::Length;
    case StopReason::Cancelled:
      return Ending::Cancelled;
  }
  return Ending::Length;
}

}  // namespace

v1::Error::~Error() = default;

struct v1::Model::Data {
  EngineModel model;
};

v1::Model::Model(std::shared_ptr<const Data> data) : data_(std::move(data)) {}

v1::Model::Model(const std::string& path, const std::string& vocabulary) {
  data_ = translated([&] {
    auto data = std::make_shared<const Data>(Data{open_model(path, vocabulary)});
    check_memory(data->model);
    return data;
  });
}

v1::Model v1::Model::builtin() {
  return v1::Model(translated([] { return builtin_model_path(); }));
}

std::uint32_t v1::Model::vocabulary_size() const {
  return data_->model.config().vocab_size;
}

std::uint32_t v1::Model::layers() const {
  return data_->model.config().layers;
}

std::uint32_t v1::Model::width() const {
  return data_->model.config().width;
}

bool v1::Model::has_vocabulary() const {
  return data_->model.tokenizer != nullptr;
}

std::vector<Token> v1::Model::tokenize(std::string_view text) const {
  return translated([&] { return require_tokenizer(data_->model).encode(text); });
}

std::string v1::Model::detokenize(std::span<const Token> tokens) const {
  return translated([&] {
    return require_tokenizer(data_->model).decode({tokens.begin(), tokens.end()});
  });
}

struct v1::Snapshot::Data {
  EngineSession::Snapshot snapshot;
  std::uint64_t fingerprint;
};

struct v1::Session::Data {
  EngineSession session;
  Sampler sampler;
};

v1::Session::Session(const v1::Model& model, const std::string& backend, unsigned threads) {
  data_ = translated([&] {
    const EngineModel& opened = model.data_->model;
    return std::make_unique<Data>(
        Data{EngineSession(opened, create_backend(backend, opened.weights, {.threads = threads})),
             Sampler({}, opened.config().vocab_size, opened.tokenizer.get())});
  });
}

v1::Session::~Session() = default;
v1::Session::Session(Session&&) noexcept = default;
v1::Session& v1::Session::operator=(Session&&) noexcept = default;

void v1::Session::set_sampling(const Sampling& sampling) {
  translated([&] {
    const EngineModel& model = data_->session.model();
    data_->sampler =
        Sampler(settings_of(sampling), model.config().vocab_size, model.tokenizer.get());
  });
}

void v1::Session::append(std::string_view text) {
  translated([&] { data_->session.append(text); });
}

Generated v1::Session::generate(const Limits& limits, const OnText& on_text) {
  return translated([&] {
    const GenerateOptions options{limits.max_tokens, limits.stops, limits.stop_at_end_of_text};
    GenerateResult result = data_->session.generate(data_->sampler, options, on_text);
    return Generated{ending_of(result.reason), std::move(result.text),
                     result.prompt_tokens,     result.tokens,
                     result.prompt_seconds,    result.seconds};
  });
}

std::vector<float> v1::Session::evaluate(std::span<const Token> tokens) {
  return translated([&] {
    const std::span<const float> logits = data_->session.evaluate(tokens);
    return std::vector<float>(logits.begin(), logits.end());
  });
}

v1::Snapshot v1::Session::snapshot() const {
  v1::Snapshot result;
  result.data_ = std::make_shared<const v1::Snapshot::Data>(
      v1::Snapshot::Data{data_->session.snapshot(), data_->session.model().fingerprint});
  return result;
}

void v1::Session::restore(const v1::Snapshot& snapshot) {
  translated([&] {
    if (snapshot.data_ == nullptr) fail("the snapshot is empty; take it with Session::snapshot()");
    if (snapshot.data_->fingerprint != data_->session.model().fingerprint) {
      fail("the snapshot is of another model than {}", data_->session.model().path);
    }
    data_->session.restore(snapshot.data_->snapshot);
  });
}

void v1::Session::save(const std::string& path) const {
  translated([&] { save_session(path, data_->session); });
}

void v1::Session::load(const std::string& path) {
  translated([&] { load_session(path, data_->session); });
}

void v1::Session::reset() {
  data_->session.reset();
  data_->sampler.reset();
}

std::vector<Token> v1::Session::tokens() const {
  return data_->session.tokens();
}

}  // namespace v1
}  // namespace gander
