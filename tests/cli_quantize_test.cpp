#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "model/checkpoint/tensor_source.h"
#include "model/gguf_export.h"
#include "model/weights.h"
#include "tests/support/cli.h"
#include "tests/support/synthetic_model.h"

namespace gander {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CliQuantize : public ::testing::Test {
 protected:
  ProcessResult quantize(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "quantize");
    return run_gander(arguments);
  }
  std::string output() const { return folder_.path("out.gguf"); }
  DataType type_of(const std::string& tensor) const {
    const TensorSource source = open_checkpoint(output());
    const Tensor* const found = source.find(tensor);
    EXPECT_NE(found, nullptr) << tensor;
    return found == nullptr ? DataType::F32 : found->type;
  }
  void expect_refused(const std::vector<std::string>& arguments, const std::string& reason) const {
    const ProcessResult result = quantize(arguments);
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, StartsWith("gander: "));
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr(reason));
    EXPECT_FALSE(std::filesystem::exists(output()));
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder_.path("")), {}));
  }

  CliFolder folder_;
};

TEST_F(CliQuantize, WritesAModelThatRuns) {
  const ProcessResult result = quantize({folder_.model(), output(), "--type", "Q8_0"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("out.gguf: "));
  EXPECT_THAT(result.out, HasSubstr("bits per weight"));
  EXPECT_THAT(result.out, HasSubstr("Q8_0"));
  EXPECT_EQ(type_of("blk.1.channel_mix_key.weight"), DataType::Q8_0);
  EXPECT_EQ(type_of("blk.1.time_mix_w2.weight"), DataType::Q8_0);
  EXPECT_EQ(type_of("blk.1.time_mix_k_k.weight"), DataType::F32);
  EXPECT_EQ(type_of("blk.1.time_mix_lerp_fused.weight"), DataType::F32);
  const ProcessResult text = run_gander({"run", output(), "-p", "once", "-n", "5"});
  EXPECT_EQ(text.code, 0) << text.err;
}

TEST_F(CliQuantize, JsonTellsWhatWasDone) {
  const std::string text = folder_.write("text", std::string(3000, 'a') + "once the story");
  const ProcessResult result =
      quantize({folder_.model(), output(), "--type", "q8_0", "--calibrate", text,
                "--calibrate-tokens", "1000", "--tensor", "token_embd=f16", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const json summary = json::parse(result.out);
  EXPECT_EQ(summary["type"], "Q8_0");
  EXPECT_EQ(summary["mix"], "balanced");
  EXPECT_EQ(summary["bytes"], std::filesystem::file_size(output()));
  EXPECT_EQ(summary["calibration_tokens"], 1000);
  EXPECT_EQ(summary["types"]["F16"]["tensors"], 1);
  EXPECT_EQ(summary["replaced"], json::array());
  EXPECT_EQ(summary["requantised"], false);
  EXPECT_GT(summary["bits_per_weight"], 8);
  EXPECT_EQ(type_of("token_embd.weight"), DataType::F16);
}

TEST_F(CliQuantize, CalibrationAndSearchChangeTheBits) {
  const std::string text = folder_.write("text", std::string(2000, 'x') + "once upon the story");
  const auto made = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {folder_.model(), output(), "--type", "q4_0"});
    const ProcessResult result = quantize(more);
    EXPECT_EQ(result.code, 0) << result.err;
    return read_text(output());
  };
  const std::string searched = made({});
  EXPECT_EQ(made({"--threads", "1"}), searched);
  const std::string calibrated = made({"--calibrate", text});
  EXPECT_NE(calibrated, searched);
  EXPECT_EQ(made({"--calibrate", text, "--threads", "1"}), calibrated);
  EXPECT_NE(made({"--round-to-nearest"}), searched);
}

TEST_F(CliQuantize, AFewTokensAreWarnedOf) {
  const std::string text = folder_.write("text", "once upon");
  const ProcessResult few =
      quantize({folder_.model(), output(), "--type", "q8_0", "--calibrate", text});
  EXPECT_EQ(few.code, 0);
  EXPECT_THAT(few.err, HasSubstr("warning: 7 tokens of calibration text are few"));
}

TEST_F(CliQuantize, TheTokenizerComesFromTheInputOrFromVocab) {
  const ProcessResult none = quantize({folder_.bare_model(), output(), "--type", "f16"});
  EXPECT_EQ(none.code, 0);
  EXPECT_THAT(none.err, HasSubstr("note: without a tokenizer"));
  EXPECT_THAT(run_gander({"run", output(), "-p", "a"}).err, HasSubstr("no tokenizer"));
  const ProcessResult given =
      quantize({folder_.bare_model(), output(), "--type", "f16", "--vocab", folder_.vocabulary()});
  EXPECT_EQ(given.err, "");
  EXPECT_EQ(run_gander({"run", output(), "-p", "a", "-n", "3"}).code, 0);
  std::filesystem::remove(output());
  const std::string text = folder_.write("text", "once");
  expect_refused({folder_.bare_model(), output(), "--type", "f16", "--calibrate", text}, "--vocab");
}

TEST_F(CliQuantize, DescriptionsAreKeptAndGiven) {
  ASSERT_EQ(quantize({folder_.model(), output(), "--type", "f16", "--metadata",
                      "general.license=MIT", "--metadata", "general.tags=[a,b c]"})
                .code,
            0);
  const TensorSource first = open_checkpoint(output());
  EXPECT_EQ(first.metadata.at("general.name"), MetadataValue(std::string("model")));
  EXPECT_EQ(first.metadata.at("general.file_type"), MetadataValue(std::uint64_t{1}));
  const std::string second_path = folder_.path("second.gguf");
  ASSERT_EQ(
      quantize({output(), second_path, "--type", "q8_0", "--metadata", "general.name=two"}).code,
      0);
  const TensorSource second = open_checkpoint(second_path);
  EXPECT_EQ(second.metadata.at("general.name"), MetadataValue(std::string("two")));
  EXPECT_EQ(second.metadata.at("general.license"), MetadataValue(std::string("MIT")));
  EXPECT_EQ(second.metadata.at("general.tags"),
            MetadataValue(std::vector<std::string>{"a", "b c"}));
  EXPECT_EQ(second.metadata.at("general.file_type"), MetadataValue(std::uint64_t{7}));
}

TEST_F(CliQuantize, NotesWhatItCouldNotDoAsAsked) {
  // Rows of 96 columns are no whole blocks of 256.
  const ProcessResult replaced = quantize({folder_.model(), output(), "--type", "q4_k"});
  EXPECT_EQ(replaced.code, 0);
  EXPECT_THAT(replaced.err, HasSubstr("no whole blocks"));
  EXPECT_EQ(type_of("output.weight"), DataType::Q8_0);
  const std::string again = folder_.path("again.gguf");
  EXPECT_THAT(quantize({output(), again, "--type", "q4_0"}).err,
              HasSubstr("note: the input is quantised already"));
}

TEST_F(CliQuantize, WrongRequestsAreRefusedInOneLine) {
  const std::string model = folder_.model();
  const std::string out = output();
  expect_refused({model, out}, "--type is required");
  expect_refused({model, "--type", "q8_0"}, "OUT is required");
  expect_refused({model, out, "--type", "q3_k"}, "no type called q3_k; the types are q4_k, q5_k");
  expect_refused({model, out, "--type", "q8_0", "--mix", "lean"}, "no mix called lean");
  expect_refused({model, out, "--type", "q8_0", "--tensor", "output"}, "PART=TYPE");
  expect_refused({model, out, "--type", "q8_0", "--tensor", "output=q9"}, "no type called q9");
  expect_refused({model, out, "--type", "q8_0", "--metadata", "x"}, "KEY=VALUE");
  expect_refused({model, out, "--type", "q8_0", "--metadata", "rwkv7.block_count=3"},
                 "follows from the model");
  expect_refused({model, out, "--type", "q8_0", "--calibrate", folder_.path("absent")},
                 "No such file");
  expect_refused({model, out, "--type", "q8_0", "--calibrate", folder_.write("none", "")},
                 "is empty");
  expect_refused({folder_.path("absent"), out, "--type", "q8_0"}, "No such file");
  expect_refused({model, folder_.path("no/out.gguf"), "--type", "q8_0"}, "No such file");
}

TEST_F(CliQuantize, TheInputIsNeverTheOutput) {
  const std::string before = read_text(folder_.model());
  expect_refused({folder_.model(), folder_.model(), "--type", "q8_0"}, "the same file");
  std::filesystem::create_hard_link(folder_.model(), folder_.path("link.gguf"));
  std::filesystem::create_symlink(folder_.model(), folder_.path("symlink.gguf"));
  expect_refused({folder_.path("link.gguf"), folder_.model(), "--type", "q8_0"}, "the same file");
  expect_refused({folder_.model(), folder_.path("symlink.gguf"), "--type", "q8_0"},
                 "the same file");
  EXPECT_EQ(read_text(folder_.model()), before);
}

TEST_F(CliQuantize, DamagedWeightsLeaveTheOldFile) {
  Config config = synthetic_config(32);
  config.layers = 1;
  Weights weights = make_synthetic_weights(config, 1);
  const std::string bad = folder_.path("bad.gguf");
  export_gguf(bad, weights, nullptr, store_as(DataType::F32, DataType::F32));
  // The last four bytes of the file are of the head, which is the last tensor.
  std::fstream file(bad, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-4, std::ios::end);
  const float nan = __builtin_nanf("");
  file.write(reinterpret_cast<const char*>(&nan), 4);
  file.close();

  folder_.write("out.gguf", "what was there");
  const std::size_t before = files();
  const ProcessResult result = quantize({bad, output(), "--type", "q8_0"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("output.weight: row "));
  EXPECT_EQ(read_text(output()), "what was there");
  EXPECT_EQ(files(), before);
}

TEST_F(CliQuantize, CtrlCLeavesNoFile) {
  // Large enough to take a while: 40 million weights.
  Config config = synthetic_config(256);
  config.layers = 1;
  config.vocab_size = 26'000;
  const std::string large = folder_.path("large.gguf");
  export_gguf(large, make_synthetic_weights(config, 1), nullptr,
              store_as(DataType::F16, DataType::F16));
  const std::size_t before = files();
  Process process(
      gander_command({"quantize", large, output(), "--type", "q5_k", "--threads", "1"}));
  for (int i = 0; i < 1000 && files() == before; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  process.send_signal(SIGINT);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.code, 130);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(files(), before);
}

TEST_F(CliQuantize, CompletionKnowsItsTypes) {
  EXPECT_THAT(run_gander({"completion", "bash"}).out,
              HasSubstr("quantize.--type) words='q4_k q5_k q6_k q8_0 q4_0 f16 bf16'"));
  EXPECT_THAT(run_gander({"completion", "fish"}).out, HasSubstr("balanced rich plain"));
}

}  // namespace
}  // namespace gander
