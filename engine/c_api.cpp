#include "engine/c_api.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "engine/cache/state_cache.h"
#include "engine/serving/engine.h"
#include "engine/serving/event_queue.h"
#include "engine/session_file.h"
#include "model/state.h"

using gander::SavedSequence;

namespace {

/// An engine with what it stands on; in the order of their making.
struct RunningEngine {
  std::optional<gander::StateCache> cache;
  std::optional<gander::Engine> engine;
};

}  // namespace

struct gander_engine {
  std::shared_ptr<RunningEngine> running;
};

struct gander_snapshot {
  SavedSequence sequence;
  std::uint64_t fingerprint;
};

struct gander_session {
  std::shared_ptr<RunningEngine> running;
  SavedSequence sequence;
  std::mutex mutex;  // of the ticket
  gander::Ticket ticket;

  const gander::Model& model() const { return running->engine->model(); }
};

namespace {

// More text than this need not wait for a reader: it is what the longest reply has.
constexpr std::size_t kUnreadBytes = std::size_t{1} << 30;

thread_local std::string last_error;

/// Runs `work`; what it throws becomes a status and last_error.
template <typename Work>
gander_status guarded(const Work& work) noexcept {
  try {
    try {
      work();
      return GANDER_OK;
    } catch (const gander::Refused& refused) {
      last_error = refused.what();
      return GANDER_REFUSED;
    } catch (const std::bad_alloc&) {
      last_error = "there is not enough memory";
    } catch (const std::exception& error) {
      last_error = error.what();
    }
  } catch (...) {  // NOLINT(bugprone-empty-catch): no memory to say so
  }
  return GANDER_ERROR;
}

template <typename Pointer>
void require(Pointer pointer, const char* what) {
  if (pointer == nullptr) gander::fail("{} is NULL", what);
}

std::string_view text_of(const char* text, std::size_t size) {
  if (size > 0) require(text, "text");
  return {text, text == nullptr ? 0 : size};
}

/// The caller's options, and the defaults of what its version of the header does not know.
template <typename Options>
Options complete(const Options* given, void (*init)(Options*), const char* name) {
  Options options;
  init(&options);
  if (given == nullptr) return options;
  const std::size_t size = given->struct_size;
  if (size < sizeof(std::size_t) || size > sizeof(Options)) {
    gander::fail("{}.struct_size is {}; set the options by {}_init()", name, size, name);
  }
  std::memcpy(&options, given, size);
  options.struct_size = sizeof(Options);
  return options;
}

gander::Request request_of(const gander_generate_options& options) {
  gander::Request request;
  request.max_tokens = options.max_tokens;
  if (options.stop_count > 0) require(options.stops, "stops");
  for (std::size_t i = 0; i < options.stop_count; ++i) {
    require(options.stops[i], "a stop string");
    request.stops.emplace_back(options.stops[i]);
  }
  request.stop_at_end_of_text = options.ignore_end == 0;
  request.priority = options.priority;
  if (!(options.timeout_seconds >= 0.0)) {
    gander::fail("timeout_seconds is {}; it must be at least 0 (never)", options.timeout_seconds);
  }
  constexpr double kLongest = 1e9;  // 30 years; the clock's numbers reach no further than 290
  if (options.timeout_seconds > 0.0 && options.timeout_seconds < kLongest) {
    request.deadline = std::chrono::steady_clock::now() +
                       std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                           std::chrono::duration<double>(options.timeout_seconds));
  }
  gander::SamplerSettings& sampling = request.sampling;
  sampling.temperature = options.temperature;
  sampling.top_k = options.top_k;
  sampling.top_p = options.top_p;
  sampling.min_p = options.min_p;
  sampling.typical_p = options.typical_p;
  sampling.repetition_penalty = options.repetition_penalty;
  sampling.presence_penalty = options.presence_penalty;
  sampling.frequency_penalty = options.frequency_penalty;
  sampling.penalty_decay = options.penalty_decay;
  if (options.logit_bias_count > 0) require(options.logit_bias, "logit_bias");
  for (std::size_t i = 0; i < options.logit_bias_count; ++i) {
    sampling.logit_bias.emplace_back(options.logit_bias[i].token, options.logit_bias[i].bias);
  }
  sampling.seed = options.seed;
  return request;
}

gander_ending ending_of(gander::FinishReason reason) {
  switch (reason) {
    case gander::FinishReason::EndOfText:
      return GANDER_END_OF_TEXT;
    case gander::FinishReason::StopString:
      return GANDER_STOP_STRING;
    case gander::FinishReason::Length:
      return GANDER_LENGTH;
    case gander::FinishReason::Deadline:
      return GANDER_TIMEOUT;
    case gander::FinishReason::Cancelled:
    case gander::FinishReason::Error:
      break;
  }
  return GANDER_CANCELLED;
}

gander_session* new_session(std::shared_ptr<RunningEngine> running, SavedSequence sequence) {
  auto session = std::make_unique<gander_session>();
  session->running = std::move(running);
  session->sequence = std::move(sequence);
  return session.release();
}

gander::Finish run_request(gander_session& session, gander::Request request, gander_on_text on_text,
                           void* context) {
  const auto queue = std::make_shared<gander::EventQueue>(kUnreadBytes);
  gander::Ticket ticket = session.running->engine->submit(std::move(request), queue->sink());
  {
    const std::lock_guard lock(session.mutex);
    session.ticket = ticket;  // when it is over, cancelling it does nothing
  }
  try {
    while (true) {
      gander::OwnedEvent event = queue->next();
      if (!event.text.empty() && on_text != nullptr &&
          on_text(context, event.text.c_str(), event.text.size()) != 0) {
        ticket.cancel();
      }
      if (event.finish) return std::move(*event.finish);
    }
  } catch (...) {  // on_text may be C++ after all
    queue->close();
    ticket.cancel();
    throw;
  }
}

}  // namespace

const char* gander_version(void) {
  return GANDER_VERSION;
}

const char* gander_last_error(void) {
  return last_error.c_str();
}

gander_status gander_model_open(const char* path, const char* vocabulary, gander_model** model) {
  return guarded([&] {
    require(model, "model");
    *model = new gander_model{
        gander::open_model(path == nullptr ? gander::builtin_model_path() : std::string(path),
                           vocabulary == nullptr ? "" : vocabulary)};
  });
}

void gander_model_destroy(gander_model* model) {
  delete model;
}

uint32_t gander_model_vocabulary_size(const gander_model* model) {
  return model == nullptr ? 0 : model->model.config().vocab_size;
}

gander_status gander_tokenize(const gander_model* model, const char* text, size_t size,
                              uint32_t* tokens, size_t capacity, size_t* count) {
  return guarded([&] {
    require(model, "model");
    require(count, "count");
    if (capacity > 0) require(tokens, "tokens");
    const std::vector<gander::TokenId> ids =
        gander::require_tokenizer(model->model).encode(text_of(text, size));
    std::copy_n(ids.begin(), std::min(capacity, ids.size()), tokens);
    *count = ids.size();
  });
}

gander_status gander_detokenize(const gander_model* model, const uint32_t* tokens, size_t count,
                                char* text, size_t capacity, size_t* size) {
  return guarded([&] {
    require(model, "model");
    require(size, "size");
    if (count > 0) require(tokens, "tokens");
    if (capacity > 0) require(text, "text");
    const std::string bytes =
        gander::require_tokenizer(model->model)
            .decode(count == 0 ? std::vector<gander::TokenId>()
                               : std::vector<gander::TokenId>(tokens, tokens + count));
    std::copy_n(bytes.begin(), std::min(capacity, bytes.size()), text);
    *size = bytes.size();
  });
}

void gander_engine_options_init(gander_engine_options* options) {
  if (options == nullptr) return;
  const gander::CacheOptions cache;
  const gander::EngineOptions engine;
  *options = {};
  options->struct_size = sizeof *options;
  options->backend = "auto";
  options->slots = 16;
  options->max_waiting = static_cast<uint32_t>(engine.max_waiting);
  options->prompt_chunk = engine.prompt_chunk;
  options->cache_memory_bytes = cache.memory_bytes / 4;
  options->cache_disk_bytes = cache.disk_bytes;
}

gander_status gander_engine_create(const gander_model* model, const gander_engine_options* given,
                                   gander_engine** engine) {
  return guarded([&] {
    require(model, "model");
    require(engine, "engine");
    const gander_engine_options options =
        complete(given, gander_engine_options_init, "gander_engine_options");
    require(options.backend, "backend");
    if (options.slots == 0) gander::fail("an engine needs at least one slot");
    const gander::Model& opened = model->model;
    gander::check_memory(opened);
    auto running = std::make_shared<RunningEngine>();
    if (options.cache_memory_bytes > 0 || options.cache_folder != nullptr) {
      gander::CacheOptions cache;
      cache.memory_bytes = options.cache_memory_bytes;
      cache.folder = options.cache_folder == nullptr ? "" : options.cache_folder;
      cache.disk_bytes = options.cache_disk_bytes;
      running->cache.emplace(opened, cache);
    }
    gander::BackendOptions backend;
    backend.threads = options.threads;
    backend.slots = gander::slots_that_fit(opened, options.slots);
    gander::EngineOptions engine_options;
    engine_options.max_waiting = options.max_waiting;
    engine_options.prompt_chunk = options.prompt_chunk;
    engine_options.sampling_threads = options.threads;
    running->engine.emplace(opened,
                            gander::create_backend(options.backend, opened.weights, backend),
                            engine_options, running->cache ? &*running->cache : nullptr);
    *engine = new gander_engine{std::move(running)};
  });
}

void gander_engine_destroy(gander_engine* engine) {
  delete engine;
}

gander_status gander_session_create(gander_engine* engine, gander_session** session) {
  return guarded([&] {
    require(engine, "engine");
    require(session, "session");
    *session = new_session(engine->running, {});
  });
}

void gander_session_destroy(gander_session* session) {
  delete session;
}

gander_status gander_session_fork(const gander_session* session, gander_session** fork) {
  return guarded([&] {
    require(session, "session");
    require(fork, "fork");
    *fork = new_session(session->running, session->sequence);
  });
}

gander_status gander_session_append(gander_session* session, const char* text, size_t size) {
  return guarded([&] {
    require(session, "session");
    session->sequence.pending += text_of(text, size);
  });
}

void gander_generate_options_init(gander_generate_options* options) {
  if (options == nullptr) return;
  const gander::SamplerSettings sampling;
  *options = {};
  options->struct_size = sizeof *options;
  options->max_tokens = 256;
  options->temperature = sampling.temperature;
  options->top_p = sampling.top_p;
  options->min_p = sampling.min_p;
  options->typical_p = sampling.typical_p;
  options->repetition_penalty = sampling.repetition_penalty;
  options->penalty_decay = sampling.penalty_decay;
}

gander_status gander_session_generate(gander_session* session, const gander_generate_options* given,
                                      gander_on_text on_text, void* context,
                                      gander_result* result) {
  return guarded([&] {
    require(session, "session");
    gander::Request request =
        request_of(complete(given, gander_generate_options_init, "gander_generate_options"));
    request.keep_end = true;
    if (session->sequence.state == nullptr) {
      request.prompt = session->sequence.pending;  // a new text, which may be in the cache
    } else {
      request.start = std::make_shared<const SavedSequence>(session->sequence);
    }
    const gander::Finish finish = run_request(*session, std::move(request), on_text, context);
    if (finish.reason == gander::FinishReason::Error) gander::fail("{}", finish.error);
    if (finish.end != nullptr) session->sequence = *finish.end;
    if (result == nullptr) return;
    *result = {ending_of(finish.reason),     finish.usage.prompt_tokens,
               finish.usage.cached_tokens,   finish.usage.generated_tokens,
               finish.usage.waiting_seconds, finish.usage.prompt_seconds,
               finish.usage.seconds};
  });
}

void gander_session_cancel(gander_session* session) {
  if (session == nullptr) return;
  const std::lock_guard lock(session->mutex);
  session->ticket.cancel();
}

gander_status gander_session_snapshot(const gander_session* session, gander_snapshot** snapshot) {
  return guarded([&] {
    require(session, "session");
    require(snapshot, "snapshot");
    *snapshot = new gander_snapshot{session->sequence, session->model().fingerprint};
  });
}

gander_status gander_session_restore(gander_session* session, const gander_snapshot* snapshot) {
  return guarded([&] {
    require(session, "session");
    require(snapshot, "snapshot");
    if (snapshot->fingerprint != session->model().fingerprint) {
      gander::fail("the snapshot is of another model than {}", session->model().path);
    }
    session->sequence = snapshot->sequence;
  });
}

void gander_snapshot_destroy(gander_snapshot* snapshot) {
  delete snapshot;
}

gander_status gander_session_save(const gander_session* session, const char* path) {
  return guarded([&] {
    require(session, "session");
    require(path, "path");
    const SavedSequence& sequence = session->sequence;
    const gander::Model& model = session->model();
    const gander::State beginning(sequence.state ? gander::Config{} : model.config());
    gander::write_state(path, sequence.state ? *sequence.state : beginning, model.fingerprint,
                        sequence.tokens, gander::session_note(sequence.pending, ""));
  });
}

gander_status gander_session_load(gander_session* session, const char* path) {
  return guarded([&] {
    require(session, "session");
    require(path, "path");
    const gander::Model& model = session->model();
    gander::Session::Snapshot snapshot =
        gander::session_of(gander::read_state(path, model.config()), model, path).snapshot;
    session->sequence = {std::make_shared<const gander::State>(std::move(snapshot.state)),
                         std::move(snapshot.tokens), std::move(snapshot.pending)};
  });
}

gander_status gander_session_reset(gander_session* session) {
  return guarded([&] {
    require(session, "session");
    session->sequence = {};
  });
}

size_t gander_session_tokens_read(const gander_session* session) {
  return session == nullptr ? 0 : session->sequence.tokens.size();
}
