// The interface for C on the built-in model.

#include <gander/gander.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "model/state.h"

namespace {

using testing::HasSubstr;

gander_model* builtin_model() {
  static gander_model* const kModel = [] {
    gander_model* model = nullptr;
    EXPECT_EQ(gander_model_open(nullptr, nullptr, &model), GANDER_OK) << gander_last_error();
    return model;
  }();
  return kModel;
}

gander_engine* shared_engine() {
  static gander_engine* const kEngine = [] {
    gander_engine_options options;
    gander_engine_options_init(&options);
    options.backend = "cpu";
    options.slots = 4;
    gander_engine* engine = nullptr;
    EXPECT_EQ(gander_engine_create(builtin_model(), &options, &engine), GANDER_OK)
        << gander_last_error();
    return engine;
  }();
  return kEngine;
}

/// A session that destroys itself.
struct TestSession {
  explicit TestSession(gander_engine* engine = shared_engine()) {
    EXPECT_EQ(gander_session_create(engine, &session), GANDER_OK) << gander_last_error();
  }
  explicit TestSession(const TestSession& other) {
    EXPECT_EQ(gander_session_fork(other.session, &session), GANDER_OK) << gander_last_error();
  }
  TestSession& operator=(const TestSession&) = delete;
  ~TestSession() { gander_session_destroy(session); }

  void append(const std::string& text) const {
    EXPECT_EQ(gander_session_append(session, text.data(), text.size()), GANDER_OK);
  }
  static int collect(void* context, const char* text, size_t size) {
    EXPECT_EQ(text[size], '\0');
    static_cast<std::string*>(context)->append(text, size);
    return 0;
  }
  std::string generate(uint32_t tokens, const char* stop = nullptr) {
    gander_generate_options options;
    gander_generate_options_init(&options);
    options.max_tokens = tokens;
    options.temperature = 0.0F;
    options.stops = &stop;
    options.stop_count = stop == nullptr ? 0 : 1;
    std::string text;
    EXPECT_EQ(gander_session_generate(session, &options, collect, &text, &result), GANDER_OK)
        << gander_last_error();
    return text;
  }

  gander_session* session = nullptr;
  gander_result result = {};
};

TEST(CApi, ReadsAndWritesTokens) {
  EXPECT_EQ(gander_model_vocabulary_size(builtin_model()), 4096U);
  uint32_t tokens[8] = {};
  size_t count = 0;
  ASSERT_EQ(gander_tokenize(builtin_model(), "Hello, world!", 13, tokens, 2, &count), GANDER_OK);
  EXPECT_EQ(count, 4U);
  EXPECT_EQ(tokens[1], 45U);
  EXPECT_EQ(tokens[2], 0U) << "beyond the capacity";
  ASSERT_EQ(gander_tokenize(builtin_model(), "Hello, world!", 13, tokens, 8, &count), GANDER_OK);
  char text[32] = {};
  size_t size = 0;
  ASSERT_EQ(gander_detokenize(builtin_model(), tokens, count, text, sizeof text, &size), GANDER_OK);
  EXPECT_EQ(std::string(text, size), "Hello, world!");
  EXPECT_STREQ(gander_version(), GANDER_VERSION);
}

TEST(CApi, GeneratesStreamsAndForgetsStopStrings) {
  TestSession session;
  session.append("Once upon a time, there was a little");
  EXPECT_EQ(session.generate(20, "in the"), " girl named Lily. She loved to play outside ");
  EXPECT_EQ(session.result.ending, GANDER_STOP_STRING);
  EXPECT_EQ(session.result.prompt_tokens, 10U);
  EXPECT_EQ(gander_session_tokens_read(session.session), 10U + session.result.tokens - 2);
  // It goes on right before it.
  session.append("with");
  EXPECT_FALSE(session.generate(5).empty());
  EXPECT_EQ(session.result.ending, GANDER_LENGTH);
}

TEST(CApi, ForksSnapshotsAndFilesGoOnWhereTheyWere) {
  const std::string file = testing::TempDir() + "gander_c_api_test.state";
  TestSession session;
  session.append("Once upon a time");
  session.generate(6);
  TestSession fork(session);
  gander_snapshot* snapshot = nullptr;
  ASSERT_EQ(gander_session_snapshot(session.session, &snapshot), GANDER_OK);
  ASSERT_EQ(gander_session_save(session.session, file.c_str()), GANDER_OK) << gander_last_error();
  const std::string rest = session.generate(8);
  EXPECT_EQ(fork.generate(8), rest);
  ASSERT_EQ(gander_session_restore(session.session, snapshot), GANDER_OK);
  gander_snapshot_destroy(snapshot);
  EXPECT_EQ(session.generate(8), rest);
  ASSERT_EQ(gander_session_load(session.session, file.c_str()), GANDER_OK) << gander_last_error();
  EXPECT_EQ(session.generate(8), rest);
  ASSERT_EQ(gander_session_reset(session.session), GANDER_OK);
  EXPECT_EQ(gander_session_tokens_read(session.session), 0U);
  // A session that has read nothing can be saved too.
  session.append("Once upon a time");
  ASSERT_EQ(gander_session_save(session.session, file.c_str()), GANDER_OK) << gander_last_error();
  TestSession other;
  ASSERT_EQ(gander_session_load(other.session, file.c_str()), GANDER_OK) << gander_last_error();
  EXPECT_EQ(other.generate(6) + other.generate(8), session.generate(6) + session.generate(8));
  std::filesystem::remove(file);
}

TEST(CApi, SessionsOfManyThreadsAreEachTheirOwn) {
  const auto text = [](int i) {
    TestSession session;
    session.append("One day, number " + std::to_string(i) + " ");
    return session.generate(5);
  };
  std::vector<std::string> expected;
  for (int i = 0; i < 3; ++i) expected.push_back(text(i));
  std::vector<std::string> actual(12);
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&, i] { actual[static_cast<std::size_t>(i)] = text(i % 3); });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(actual[i], expected[i % 3]);
}

/// The text of the tokens that a session has read.
std::string text_read(const TestSession& session) {
  const std::string file = testing::TempDir() + "gander_c_api_read.state";
  EXPECT_EQ(gander_session_save(session.session, file.c_str()), GANDER_OK);
  std::ifstream in(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const gander::SavedState saved = gander::parse_state(std::as_bytes(std::span(bytes)), file);
  std::filesystem::remove(file);
  std::string text(saved.tokens.size() * 32, '\0');
  size_t size = 0;
  EXPECT_EQ(gander_detokenize(builtin_model(), saved.tokens.data(), saved.tokens.size(),
                              text.data(), text.size(), &size),
            GANDER_OK);
  text.resize(size);
  return text;
}

TEST(CApi, ACallbackOrAnotherThreadCancels) {
  struct Context {
    gander_session* session;
    std::string text;
    bool from_thread;
    std::thread thread;
  };
  for (const bool from_thread : {false, true}) {
    TestSession session;
    session.append("Once upon a time");
    gander_generate_options options;
    gander_generate_options_init(&options);
    options.max_tokens = 1000000;
    options.ignore_end = 1;
    Context context{session.session, "", from_thread, {}};
    gander_result result;
    const auto on_text = [](void* data, const char* text, size_t) {
      auto& own = *static_cast<Context*>(data);
      own.text += text;
      if (!own.from_thread) return 1;
      if (!own.thread.joinable()) {
        own.thread = std::thread([&own] { gander_session_cancel(own.session); });
      }
      return 0;
    };
    ASSERT_EQ(gander_session_generate(session.session, &options, on_text, &context, &result),
              GANDER_OK);
    if (context.thread.joinable()) context.thread.join();
    EXPECT_EQ(result.ending, GANDER_CANCELLED);
    EXPECT_LT(result.tokens, 1000U);
    // The session is that of the text that came, less a token that waits.
    const std::string whole = "Once upon a time" + context.text;
    const std::string read = text_read(session);
    EXPECT_TRUE(whole.starts_with(read)) << whole << " and " << read;
    EXPECT_LE(whole.size() - read.size(), 20U);
    gander_session_cancel(session.session);  // nothing runs
  }
}

TEST(CApi, ATimeoutEndsIt) {
  TestSession session;
  session.append("Once upon a time");
  gander_generate_options options;
  gander_generate_options_init(&options);
  options.max_tokens = 1000000;
  options.ignore_end = 1;
  options.timeout_seconds = 0.05;
  gander_result result;
  ASSERT_EQ(gander_session_generate(session.session, &options, nullptr, nullptr, &result),
            GANDER_OK);
  EXPECT_EQ(result.ending, GANDER_TIMEOUT);
}

TEST(CApi, ObjectsAreDestroyedInAnyOrder) {
  gander_model* model = nullptr;
  gander_engine* engine = nullptr;
  ASSERT_EQ(gander_model_open(nullptr, nullptr, &model), GANDER_OK);
  ASSERT_EQ(gander_engine_create(model, nullptr, &engine), GANDER_OK) << gander_last_error();
  TestSession session(engine);
  gander_model_destroy(model);
  gander_engine_destroy(engine);
  session.append("One day");
  EXPECT_FALSE(session.generate(2).empty());
  gander_model_destroy(nullptr);
  gander_engine_destroy(nullptr);
  gander_session_destroy(nullptr);
  gander_snapshot_destroy(nullptr);
}

#define EXPECT_FAILURE(call, message) \
  EXPECT_EQ(call, GANDER_ERROR);      \
  EXPECT_THAT(gander_last_error(), HasSubstr(message))

TEST(CApi, EveryFailureIsAStatusAndAMessage) {
  gander_model* model = nullptr;
  EXPECT_FAILURE(gander_model_open("/nonexistent.gguf", nullptr, &model), "/nonexistent.gguf");
  EXPECT_FAILURE(gander_model_open(nullptr, "/nonexistent.txt", &model), "/nonexistent.txt");
  EXPECT_FAILURE(gander_model_open(nullptr, nullptr, nullptr), "model is NULL");
  EXPECT_EQ(model, nullptr);
  size_t count = 0;
  EXPECT_FAILURE(gander_tokenize(nullptr, "a", 1, nullptr, 0, &count), "model is NULL");
  EXPECT_FAILURE(gander_tokenize(builtin_model(), nullptr, 1, nullptr, 0, &count), "text is NULL");
  EXPECT_FAILURE(gander_tokenize(builtin_model(), "a", 1, nullptr, 1, &count), "tokens is NULL");
  EXPECT_FAILURE(gander_tokenize(builtin_model(), "a", 1, nullptr, 0, nullptr), "count is NULL");
  EXPECT_FAILURE(gander_detokenize(builtin_model(), nullptr, 1, nullptr, 0, &count),
                 "tokens is NULL");

  gander_engine* engine = nullptr;
  gander_engine_options options;
  gander_engine_options_init(&options);
  options.backend = "abacus";
  EXPECT_FAILURE(gander_engine_create(builtin_model(), &options, &engine),
                 "no backend called abacus");
  options.backend = nullptr;
  EXPECT_FAILURE(gander_engine_create(builtin_model(), &options, &engine), "backend is NULL");
  gander_engine_options_init(&options);
  options.slots = 0;
  EXPECT_FAILURE(gander_engine_create(builtin_model(), &options, &engine), "at least one slot");
  options.struct_size = 12345;
  EXPECT_FAILURE(gander_engine_create(builtin_model(), &options, &engine), "struct_size is 12345");
  EXPECT_FAILURE(gander_engine_create(nullptr, nullptr, &engine), "model is NULL");
  EXPECT_FAILURE(gander_engine_create(builtin_model(), nullptr, nullptr), "engine is NULL");
  gander_engine_options_init(nullptr);

  gander_session* none = nullptr;
  EXPECT_FAILURE(gander_session_create(nullptr, &none), "engine is NULL");
  EXPECT_FAILURE(gander_session_create(shared_engine(), nullptr), "session is NULL");
  EXPECT_FAILURE(gander_session_fork(nullptr, &none), "session is NULL");
  EXPECT_FAILURE(gander_session_append(nullptr, "a", 1), "session is NULL");
  EXPECT_FAILURE(gander_session_generate(nullptr, nullptr, nullptr, nullptr, nullptr), "NULL");
  EXPECT_FAILURE(gander_session_reset(nullptr), "session is NULL");
  EXPECT_EQ(gander_session_tokens_read(nullptr), 0U);
  gander_session_cancel(nullptr);

  TestSession session;
  EXPECT_FAILURE(gander_session_append(session.session, nullptr, 1), "text is NULL");
  EXPECT_EQ(gander_session_append(session.session, nullptr, 0), GANDER_OK);
  EXPECT_FAILURE(gander_session_generate(session.session, nullptr, nullptr, nullptr, nullptr),
                 "nothing to continue from");
  session.append("One day");
  gander_generate_options generation;
  const auto refuse = [&](const char* message) {
    EXPECT_FAILURE(gander_session_generate(session.session, &generation, nullptr, nullptr, nullptr),
                   message);
    gander_generate_options_init(&generation);
  };
  gander_generate_options_init(&generation);
  generation.temperature = -1.0F;
  refuse("temperature is -1");
  generation.timeout_seconds = -1.0;
  refuse("timeout_seconds is -1");
  generation.stop_count = 1;
  refuse("stops is NULL");
  const char* stop = nullptr;
  generation.stops = &stop;
  generation.stop_count = 1;
  refuse("a stop string is NULL");
  generation.logit_bias_count = 1;
  refuse("logit_bias is NULL");
  const gander_logit_bias bias = {4096, 1.0F};
  generation.logit_bias = &bias;
  generation.logit_bias_count = 1;
  refuse("token 4096");
  generation.struct_size = 0;
  refuse("gander_generate_options_init()");

  EXPECT_FAILURE(gander_session_save(session.session, "/nonexistent/s.state"), "/nonexistent/");
  EXPECT_FAILURE(gander_session_save(session.session, nullptr), "path is NULL");
  EXPECT_FAILURE(gander_session_load(session.session, "/nonexistent.state"), "/nonexistent.state");
  EXPECT_FAILURE(gander_session_restore(session.session, nullptr), "snapshot is NULL");
  EXPECT_FAILURE(gander_session_snapshot(session.session, nullptr), "snapshot is NULL");
  EXPECT_FALSE(session.generate(2).empty()) << "nothing was changed by all that";
  // Another thread's errors are its own.
  std::thread([] { EXPECT_STREQ(gander_last_error(), ""); }).join();
}

TEST(CApi, OptionsOfAnOlderHeaderAreCompleted) {
  TestSession session;
  session.append("One day");
  gander_generate_options options;
  gander_generate_options_init(&options);
  options.max_tokens = 3;
  options.temperature = -1.0F;  // not looked at: beyond what the caller knows
  options.struct_size = offsetof(gander_generate_options, stops);
  gander_result result;
  ASSERT_EQ(gander_session_generate(session.session, &options, nullptr, nullptr, &result),
            GANDER_OK)
      << gander_last_error();
  EXPECT_EQ(result.tokens, 3U);
}

TEST(CApi, AFullQueueIsAStatusOfItsOwn) {
  gander_engine_options options;
  gander_engine_options_init(&options);
  options.backend = "cpu";
  options.slots = 1;
  options.max_waiting = 0;
  gander_engine* engine = nullptr;
  ASSERT_EQ(gander_engine_create(builtin_model(), &options, &engine), GANDER_OK);
  TestSession running(engine);
  TestSession refused(engine);
  running.append("One day");
  refused.append("One day");
  // While the one has the only slot, the other asks for it.
  gander_generate_options endless;
  gander_generate_options_init(&endless);
  endless.max_tokens = 1000000;
  endless.ignore_end = 1;
  struct Context {
    gander_session* other;
    int calls;
  } context = {refused.session, 0};
  const auto on_text = [](void* data, const char*, size_t) {
    Context& own = *static_cast<Context*>(data);
    if (++own.calls > 1) return 1;  // cancelled already, so the slot may be free
    EXPECT_EQ(gander_session_generate(own.other, nullptr, nullptr, nullptr, nullptr),
              GANDER_REFUSED);
    EXPECT_THAT(gander_last_error(), HasSubstr("the queue is full"));
    return 1;
  };
  gander_result result;
  EXPECT_EQ(gander_session_generate(running.session, &endless, on_text, &context, &result),
            GANDER_OK);
  EXPECT_EQ(result.ending, GANDER_CANCELLED);
  EXPECT_FALSE(refused.generate(2).empty()) << "the slot is free again";
  gander_engine_destroy(engine);
}

}  // namespace
