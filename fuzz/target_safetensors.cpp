#include "base/error.h"
#include "fuzz/exercise_source.h"
#include "fuzz/targets.h"
#include "model/checkpoint/safetensors.h"

namespace gander {

void fuzz_safetensors(std::span<const std::byte> bytes) {
  try {
    exercise_source(parse_safetensors(bytes, "fuzz"));
  } catch (const Error&) {
  }
}

}  // namespace gander
