#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "model/checkpoint/tensor_source.h"
#include "model/state.h"
#include "tests/support/backend_check.h"
#include "tests/support/temporary_folder.h"

namespace gander {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

SavedState example(const Config& config) {
  SavedState saved;
  saved.state = State(config);
  std::iota(saved.state.values().begin(), saved.state.values().end(), 0.5F);
  saved.fingerprint = 0x0123456789abcdefU;
  saved.tokens = {0, 1, 70000};
  saved.note = std::string("a\0b", 3);
  return saved;
}

std::vector<std::byte> contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

TEST(State, PartsTileTheValues) {
  const Config config = odd_config();
  State state(config);
  EXPECT_EQ(state.values().size(), config.layers * config.width * (2 + config.head_size));
  const float* next = state.values().data();
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    for (const std::span<float> part :
         {state.att_shift(layer), state.matrix(layer), state.ffn_shift(layer)}) {
      EXPECT_EQ(part.data(), next);
      next += part.size();
    }
  }
  EXPECT_EQ(next, state.values().data() + state.values().size());
}

TEST(StateFile, RoundTrips) {
  const TemporaryFolder folder;
  const Config config = odd_config();
  const SavedState saved = example(config);
  write_state(folder.path("s"), saved);
  const SavedState read = read_state(folder.path("s"), config);
  EXPECT_TRUE(std::ranges::equal(read.state.values(), saved.state.values()));
  EXPECT_EQ(read.fingerprint, saved.fingerprint);
  EXPECT_EQ(read.tokens, saved.tokens);
  EXPECT_EQ(read.note, saved.note);
}

TEST(StateFile, EveryTruncationAndEveryFlippedByteIsNoticed) {
  const TemporaryFolder folder;
  Config config = odd_config();
  config.layers = 1;
  config.heads = 1;
  config.head_size = 4;
  config.width = 4;
  write_state(folder.path("s"), example(config));
  const std::vector<std::byte> bytes = contents(folder.path("s"));
  EXPECT_NO_THROW(parse_state(bytes, "s"));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(parse_state(std::span(bytes).first(size), "s"), Error) << size;
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::vector<std::byte> damaged = bytes;
    damaged[i] ^= std::byte{0x10};
    EXPECT_THROW(parse_state(damaged, "s"), Error) << i;
  }
}

TEST(StateFile, OfAnotherModelIsRefused) {
  const TemporaryFolder folder;
  const Config config = odd_config();
  write_state(folder.path("s"), example(config));
  Config other = config;
  other.layers += 1;
  EXPECT_THAT(
      [&] { read_state(folder.path("s"), other); },
      ThrowsMessage<Error>(HasSubstr("2 layers, 3 heads of 23; this model has 3, 3 of 23")));
}

TEST(StateFile, AbsentFileOrFolder) {
  EXPECT_THAT([] { read_state("/nowhere/s", odd_config()); },
              ThrowsMessage<Error>(HasSubstr("No such file")));
  EXPECT_THAT([] { write_state("/nowhere/s", example(odd_config())); },
              ThrowsMessage<Error>(HasSubstr("cannot create /nowhere/s")));
}

// A safetensors file with one F32 tensor [1,2,2] holding 1 2 3 4.
void write_tuned_safetensors(const std::string& path) {
  const std::string header =
      R"({"blocks.0.att.time_state":{"dtype":"F32","shape":[1,2,2],"data_offsets":[0,16]}})";
  const std::uint64_t size = header.size();
  const float values[4] = {1, 2, 3, 4};
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(&size), 8)
      .write(header.data(), static_cast<std::streamsize>(header.size()))
      .write(reinterpret_cast<const char*>(values), sizeof values);
}

TEST(StateFile, TunedStateOfWebRwkvIsTransposed) {
  const TemporaryFolder folder;
  write_tuned_safetensors(folder.path("state.st"));
  Config config;
  config.layers = 1;
  config.heads = 1;
  config.head_size = 2;
  config.width = 2;
  const SavedState read = read_state(folder.path("state.st"), config);
  EXPECT_THAT(read.state.matrix(0), ::testing::ElementsAre(1, 3, 2, 4));
  EXPECT_THAT(read.state.att_shift(0), ::testing::Each(0.0F));
  config.heads = 2;
  config.width = 4;
  EXPECT_THAT([&] { read_state(folder.path("state.st"), config); },
              ThrowsMessage<Error>(HasSubstr("is [1, 2, 2], this model needs [2, 2, 2]")));
  config.layers = 2;
  EXPECT_THROW(read_state(folder.path("state.st"), config), Error);
}

}  // namespace
}  // namespace gander
