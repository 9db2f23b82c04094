#include "base/error.h"
#include "fuzz/exercise_source.h"
#include "fuzz/targets.h"
#include "model/checkpoint/gguf.h"
#include "model/tokenizer/tokenizer.h"

namespace gander {

void fuzz_gguf(std::span<const std::byte> bytes) {
  try {
    const TensorSource source = parse_gguf(bytes, "fuzz");
    exercise_source(source);
    tokenizer_of(source);
  } catch (const Error&) {
  }
}

}  // namespace gander
