#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <stdexcept>

#include "engine/session.h"
#include "tests/support/fake_backend.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using ::testing::ElementsAre;

using Ids = std::vector<TokenId>;

TokenId token_of(char c) {
  return static_cast<TokenId>(static_cast<unsigned char>(c)) + 1;
}

/// Any tokens but the single bytes other than a and b, depending on the last two; the end of the
/// text now and then.
void predict_from_two(std::span<const TokenId> history, std::span<float> logits) {
  std::ranges::fill(logits, -30.0F);
  const std::size_t size = history.size();
  const TokenId before = size > 1 ? history[size - 2] : 0;
  std::mt19937 random(history[size - 1] * 1000 + before);
  for (std::size_t token = 257; token < logits.size(); ++token) {
    logits[token] = static_cast<float>(random() % 1000) / 300.0F;
  }
  logits[token_of('a')] = logits[token_of('b')] = 1.0F;
  logits[0] = 2.0F;
}

/// A session on a fake backend, which samples itself or not, and what it showed.
class Generated {
 public:
  Generated(const std::vector<std::string>& more_tokens, FakeBackend::Predict predict,
            bool on_device, const SamplerSettings& settings = {.temperature = 0.0F})
      : tokenizer(std::make_shared<const Tokenizer>(byte_tokenizer(more_tokens))),
        sampler(settings, size(), tokenizer.get()),
        session(fake_model(tokenizer, size()),
                std::make_unique<FakeBackend>(size(), std::move(predict))) {
    if (on_device) backend().enable_generator();
    session.append("x");
  }

  std::uint32_t size() const { return static_cast<std::uint32_t>(tokenizer->size()); }
  FakeBackend& backend() { return dynamic_cast<FakeBackend&>(session.backend()); }
  GenerateResult generate(const GenerateOptions& options) {
    calls = 0;
    return session.generate(sampler, options, [this](std::string_view piece) {
      pieces.emplace_back(piece);
      return ++calls != cancel_at;
    });
  }

  std::shared_ptr<const Tokenizer> tokenizer;
  Sampler sampler;
  Session session;
  std::vector<std::string> pieces;
  int calls = 0;
  int cancel_at = 0;
};

void expect_same(Generated& device, Generated& cpu) {
  EXPECT_EQ(device.pieces, cpu.pieces);
  EXPECT_EQ(device.session.tokens(), cpu.session.tokens());
  EXPECT_EQ(device.session.pending(), cpu.session.pending());
  EXPECT_EQ(device.backend().history(), cpu.backend().history());
  const SamplerMemory a = device.sampler.memory();
  const SamplerMemory b = cpu.sampler.memory();
  EXPECT_EQ(a.random, b.random);
  EXPECT_EQ(a.scale, b.scale);
  EXPECT_TRUE(std::ranges::equal(a.counts, b.counts));
  EXPECT_TRUE(std::ranges::equal(a.seen, b.seen));
}

// Everything that can happen, several times in one session: device and CPU go the same way.
TEST(SessionAhead, TheDeviceChangesNothing) {
  const std::vector<std::string> tokens = {"aa", "ab", "ba", "aba", "bbab", "", "abac"};
  std::mt19937 random(3);
  std::map<StopReason, int> reasons;
  for (int round = 0; round < 700; ++round) {
    const SamplerSettings settings = {.temperature = random() % 4 == 0 ? 0.0F : 1.0F,
                                      .top_p = 0.9F,
                                      .seed = static_cast<std::uint64_t>(round)};
    Generated device(tokens, predict_from_two, true, settings);
    Generated cpu(tokens, predict_from_two, false, settings);
    for (int turn = 0; turn < 3; ++turn) {
      GenerateOptions options;
      options.max_tokens = 1 + static_cast<std::uint32_t>(random() % 30);
      options.tokens_ahead = 1 + static_cast<std::uint32_t>(random() % 9);
      options.stop_at_end_of_text = random() % 5 != 0;
      for (std::size_t i = random() % 3; i > 0; --i) {
        std::string stop;
        for (std::size_t j = 3 + random() % 12; j > 0; --j) stop += random() % 2 == 0 ? 'a' : 'b';
        options.stops.push_back(stop);
      }
      device.cancel_at = cpu.cancel_at =
          random() % 4 == 0 ? 1 + static_cast<int>(random() % 15) : 0;
      const GenerateResult expected = cpu.generate(options);
      const GenerateResult result = device.generate(options);
      ++reasons[expected.reason];
      ASSERT_EQ(result.reason, expected.reason);
      ASSERT_EQ(result.text, expected.text);
      ASSERT_EQ(result.tokens, expected.tokens);
      expect_same(device, cpu);
      if (HasFailure()) FAIL() << "round " << round << ", turn " << turn;
      device.session.append("ab");
      cpu.session.append("ab");
    }
    ASSERT_GT(device.backend().blocks(), 0);
  }
  for (const StopReason reason :
       {StopReason::EndOfText, StopReason::StopString, StopReason::Length, StopReason::Cancelled}) {
    EXPECT_GT(reasons[reason], 100);
  }
}

// Tokens 1 2 3 | 4 5 6 | 7 8 9 of the script in blocks of three; the stop string takes those in
// parentheses.
TEST(SessionAhead, AStopStringLeavesNoTraceWhereverBlocksEnd) {
  struct Case {
    Ids script;
    std::size_t kept;
  };
  const TokenId a = token_of('a');
  const TokenId s1 = 257;                                         // "<s"
  const TokenId s2 = 258;                                         // "top"
  const TokenId s3 = 259;                                         // "/>"
  for (const Case& c : {Case{{s1, s2, s3, a, a, a, a}, 0},        // (1 2 3)
                        Case{{a, s1, s2, s3, a, a, a, a}, 1},     // 1 (2 3 | 4)
                        Case{{a, a, s1, s2, s3, a, a, a}, 2},     // 1 2 (3 | 4 5)
                        Case{{a, a, a, s1, s2, s3, a, a}, 3},     // 1 2 3 | (4 5 6)
                        Case{{a, a, a, a, a, s1, s2, s3}, 5}}) {  // ... (6 | 7 8)
    Generated device({"<s", "top", "/>"}, scripted(2, c.script), true);
    const GenerateResult result = device.generate({.stops = {"<stop/>"}, .tokens_ahead = 3});
    EXPECT_EQ(result.reason, StopReason::StopString);
    EXPECT_EQ(result.text, std::string(c.kept, 'a'));
    Ids read = {0, token_of('x')};
    read.insert(read.end(), c.kept, a);
    EXPECT_EQ(device.backend().history(), read) << c.kept;
    EXPECT_EQ(device.session.tokens(), read);
    EXPECT_EQ(device.session.pending(), "");
  }
}

// A stop string of eight tokens that begins in the first of blocks of two.
TEST(SessionAhead, AStopStringMayLastForManyBlocks) {
  const Ids script = {token_of('a'), token_of('1'), token_of('2'), token_of('3'), token_of('4'),
                      token_of('5'), token_of('6'), token_of('7'), token_of('8')};
  Generated device({}, scripted(2, script), true);
  const GenerateResult result = device.generate({.stops = {"12345678"}, .tokens_ahead = 2});
  EXPECT_EQ(result.text, "a");
  EXPECT_EQ(device.backend().history(), (Ids{0, token_of('x'), token_of('a')}));
}

TEST(SessionAhead, TheLastBlockEndsAtTheLimit) {
  for (const std::uint32_t block : {1U, 2U, 3U, 8U, 64U, 1000U}) {
    Generated device({}, scripted(2, Ids(200, token_of('a'))), true);
    const GenerateResult result = device.generate({.max_tokens = 130, .tokens_ahead = block});
    EXPECT_EQ(result.tokens, 130U);
    EXPECT_EQ(device.backend().history().size(), 2U + 129U) << "nothing was taken back";
    EXPECT_EQ(device.backend().blocks(), (130 + std::min(block, 64U) - 1) / std::min(block, 64U));
    EXPECT_EQ(device.backend().calls(), 1 + 129);
    EXPECT_EQ(device.session.pending(), "a");
  }
}

TEST(SessionAhead, TextComesBlockByBlockWhileOneMoreIsQueued) {
  Generated device({}, scripted(2, Ids(100, token_of('a'))), true);
  std::vector<int> blocks;
  device.session.generate(device.sampler, {.max_tokens = 8, .tokens_ahead = 2},
                          [&](std::string_view) {
                            blocks.push_back(device.backend().blocks());
                            return true;
                          });
  EXPECT_THAT(blocks, ElementsAre(2, 2, 3, 3, 4, 4, 4, 4));
}

TEST(SessionAhead, TheCpuSamplesWhatTheDeviceCannot) {
  Generated penalised({}, scripted(2, {token_of('a')}), true,
                      {.temperature = 0.0F, .presence_penalty = 1.0F});
  EXPECT_EQ(penalised.generate({}).text, "a");
  EXPECT_EQ(penalised.backend().blocks(), 0);
  Generated off({}, scripted(2, {token_of('a')}), true);
  EXPECT_EQ(off.generate({.tokens_ahead = 0}).text, "a");
  EXPECT_EQ(off.backend().blocks(), 0);
}

TEST(SessionAhead, GoesOnFromEvaluate) {
  Generated device({}, scripted(3, {token_of('a'), token_of('b')}), true);
  device.session.evaluate(Ids{7});
  EXPECT_EQ(device.generate({}).text, "ab");
}

TEST(SessionAhead, AnExceptionLeavesTheSequenceWhereItWas) {
  Generated device({}, scripted(2, {token_of('a'), token_of('b'), token_of('c'), token_of('d')}),
                   true);
  const auto throw_at_c = [](std::string_view piece) -> bool {
    if (piece == "c") throw std::runtime_error("no more");
    return true;
  };
  EXPECT_THROW(device.session.generate(device.sampler, {.tokens_ahead = 2}, throw_at_c),
               std::runtime_error);
  EXPECT_EQ(device.session.tokens(), (Ids{0, token_of('x'), token_of('a'), token_of('b')}));
  EXPECT_EQ(device.backend().history(), device.session.tokens());
}

}  // namespace
}  // namespace gander
