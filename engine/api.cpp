// The public interface over the engine. It has classes of the same names as the engine's, in an
// inline namespace; so here the engine's get other names before the public header comes.

#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "base/error.h"
#include "engine/c_api.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace gander::engine {

using EngineError = gander::Error;
using EngineModel = gander::Model;
using SessionOnBackend = gander::Session;

}  // namespace gander::engine

#include "gander/gander.hpp"

namespace gander {
inline namespace v1 {
namespace {

using engine::EngineError;
using engine::EngineModel;
using engine::SessionOnBackend;

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
  SessionOnBackend::Snapshot snapshot;
  std::uint64_t fingerprint;
};

struct v1::Session::Data {
  SessionOnBackend session;
  Sampler sampler;
};

v1::Session::Session(const v1::Model& model, const std::string& backend, unsigned threads) {
  data_ = translated([&] {
    const EngineModel& opened = model.data_->model;
    return std::make_unique<Data>(Data{
        SessionOnBackend(opened, create_backend(backend, opened.weights, {.threads = threads})),
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

// Engines are those of the interface for C.

namespace {

void check(gander_status status) {
  if (status == GANDER_REFUSED) throw v1::Refused(gander_last_error());
  if (status != GANDER_OK) throw v1::Error(gander_last_error());
}

gander_session* handle(const std::shared_ptr<void>& session) {
  return static_cast<gander_session*>(session.get());
}

std::shared_ptr<void> owned(gander_session* session) {
  return {session,
          [](void* pointer) { gander_session_destroy(static_cast<gander_session*>(pointer)); }};
}

/// Calls a callback of C++ from C, which exceptions must not cross.
struct TextCall {
  const v1::Session::OnText& on_text;
  std::string text = {};
  std::exception_ptr error = nullptr;

  static int call(void* context, const char* text, std::size_t size) {
    TextCall& self = *static_cast<TextCall*>(context);
    if (self.error) return 1;
    try {
      self.text.append(text, size);
      return !self.on_text || self.on_text({text, size}) ? 0 : 1;
    } catch (...) {
      self.error = std::current_exception();
      return 1;
    }
  }
};

v1::Ending ending_of(gander_ending ending) {
  switch (ending) {
    case GANDER_END_OF_TEXT:
      return v1::Ending::EndOfText;
    case GANDER_STOP_STRING:
      return v1::Ending::StopString;
    case GANDER_LENGTH:
      return v1::Ending::Length;
    case GANDER_CANCELLED:
      return v1::Ending::Cancelled;
    case GANDER_TIMEOUT:
      return v1::Ending::Timeout;
  }
  return v1::Ending::Length;
}

}  // namespace

v1::Refused::~Refused() = default;

v1::Engine::Engine(const v1::Model& model, const v1::EngineOptions& options) {
  gander_engine_options given;
  gander_engine_options_init(&given);
  given.backend = options.backend.c_str();
  given.threads = options.threads;
  given.slots = options.slots;
  given.max_waiting = options.max_waiting;
  given.prompt_chunk = options.prompt_chunk;
  given.cache_memory_bytes = options.cache_memory_bytes;
  given.cache_folder = options.cache_folder.empty() ? nullptr : options.cache_folder.c_str();
  given.cache_disk_bytes = options.cache_disk_bytes;
  const gander_model opened = {model.data_->model};
  gander_engine* engine = nullptr;
  check(gander_engine_create(&opened, &given, &engine));
  engine_ = {engine,
             [](void* pointer) { gander_engine_destroy(static_cast<gander_engine*>(pointer)); }};
}

v1::EngineSession v1::Engine::session() const {
  gander_session* session = nullptr;
  check(gander_session_create(static_cast<gander_engine*>(engine_.get()), &session));
  return v1::EngineSession(owned(session));
}

void v1::EngineSession::append(std::string_view text) {
  check(gander_session_append(handle(session_), text.data(), text.size()));
}

Generated v1::EngineSession::generate(const Sampling& sampling, const Limits& limits,
                                      const v1::Session::OnText& on_text, double seconds) {
  gander_generate_options options;
  gander_generate_options_init(&options);
  std::vector<const char*> stops;
  for (const std::string& stop : limits.stops) stops.push_back(stop.c_str());
  std::vector<gander_logit_bias> biases;
  for (const auto& [token, bias] : sampling.logit_bias) biases.push_back({token, bias});
  options.max_tokens = limits.max_tokens;
  options.stops = stops.data();
  options.stop_count = stops.size();
  options.ignore_end = limits.stop_at_end_of_text ? 0 : 1;
  options.timeout_seconds = seconds;
  options.temperature = sampling.temperature;
  options.top_k = sampling.top_k;
  options.top_p = sampling.top_p;
  options.min_p = sampling.min_p;
  options.typical_p = sampling.typical_p;
  options.repetition_penalty = sampling.repetition_penalty;
  options.presence_penalty = sampling.presence_penalty;
  options.frequency_penalty = sampling.frequency_penalty;
  options.penalty_decay = sampling.penalty_decay;
  options.logit_bias = biases.data();
  options.logit_bias_count = biases.size();
  options.seed = sampling.seed;
  TextCall call{on_text};
  gander_result result;
  check(gander_session_generate(handle(session_), &options, TextCall::call, &call, &result));
  if (call.error) std::rethrow_exception(call.error);
  return {ending_of(result.ending), std::move(call.text), result.prompt_tokens, result.tokens,
          result.prompt_seconds,    result.seconds};
}

void v1::EngineSession::cancel() {
  gander_session_cancel(handle(session_));
}

v1::EngineSession v1::EngineSession::fork() const {
  gander_session* session = nullptr;
  check(gander_session_fork(handle(session_), &session));
  return v1::EngineSession(owned(session));
}

void v1::EngineSession::save(const std::string& path) const {
  check(gander_session_save(handle(session_), path.c_str()));
}

void v1::EngineSession::load(const std::string& path) {
  check(gander_session_load(handle(session_), path.c_str()));
}

void v1::EngineSession::reset() {
  check(gander_session_reset(handle(session_)));
}

std::size_t v1::EngineSession::tokens_read() const {
  return gander_session_tokens_read(handle(session_));
}

}  // namespace v1
}  // namespace gander
