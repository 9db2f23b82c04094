#pragma once

#include <cstddef>
#include <span>

// What the fuzzers run, one function per parser of untrusted bytes. They return normally or by a
// caught gander::Error; anything else is a finding. fuzz_<name>.cpp makes a libFuzzer program of
// each, and tests/fuzz_corpus_test.cpp replays the files of fuzz/corpus/<name>.
namespace gander {

void fuzz_gguf(std::span<const std::byte> bytes);
void fuzz_safetensors(std::span<const std::byte> bytes);
void fuzz_pth(std::span<const std::byte> bytes);
void fuzz_vocabulary(std::span<const std::byte> bytes);
void fuzz_state(std::span<const std::byte> bytes);
void fuzz_json_schema(std::span<const std::byte> bytes);
/// Needs GANDER_SERVER.
void fuzz_openai_request(std::span<const std::byte> bytes);

}  // namespace gander
