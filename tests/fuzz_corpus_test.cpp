#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "fuzz/targets.h"

// Replays every file of fuzz/corpus through the function it was found for. A finding ends the
// program, or makes a sanitizer speak up.
namespace gander {
namespace {

struct Target {
  const char* name;
  void (*run)(std::span<const std::byte>);
};

void PrintTo(const Target& target, std::ostream* out) {
  *out << target.name;
}

class FuzzCorpus : public ::testing::TestWithParam<Target> {};

TEST_P(FuzzCorpus, Replays) {
  const auto folder =
      std::filesystem::path(GANDER_SOURCE_DIR) / "fuzz" / "corpus" / GetParam().name;
  GetParam().run({});
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path().string());
    if (entry.file_size() == 0) continue;  // has been run above, and cannot be mapped
    // A copy of that very size, so that the address sanitizer sees a read past the end.
    const MappedFile file(entry.path().string());
    const std::vector<std::byte> bytes(file.bytes().begin(), file.bytes().end());
    GetParam().run(bytes);
    ++files;
  }
  EXPECT_GT(files, 2) << folder;
}

std::vector<Target> targets() {
  return {
      {"gguf", fuzz_gguf},
      {"safetensors", fuzz_safetensors},
      {"pth", fuzz_pth},
      {"state", fuzz_state},
      {"vocabulary", fuzz_vocabulary},
      {"json_schema", fuzz_json_schema},
#ifdef GANDER_HAS_SERVER
      {"openai_request", fuzz_openai_request},
#endif
  };
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzCorpus, ::testing::ValuesIn(targets()),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace gander
