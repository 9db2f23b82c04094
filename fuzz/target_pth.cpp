#include "base/error.h"
#include "fuzz/exercise_source.h"
#include "fuzz/targets.h"
#include "model/checkpoint/pth.h"

namespace gander {

void fuzz_pth(std::span<const std::byte> bytes) {
  try {
    exercise_source(parse_pth(bytes, "fuzz"));
  } catch (const Error&) {
  }
}

}  // namespace gander
