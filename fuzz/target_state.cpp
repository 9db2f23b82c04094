#include <xxhash.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "fuzz/targets.h"
#include "model/state.h"

namespace gander {

// The bytes as they are, and once more with the checksum that belongs to them, which a fuzzer would
// never guess.
void fuzz_state(std::span<const std::byte> bytes) {
  std::vector<std::byte> sealed(bytes.begin(), bytes.end());
  const std::uint64_t checksum = XXH64(bytes.data(), bytes.size(), 0);
  sealed.resize(bytes.size() + sizeof checksum);
  std::memcpy(sealed.data() + bytes.size(), &checksum, sizeof checksum);
  for (const std::span<const std::byte> input : {bytes, std::span<const std::byte>(sealed)}) {
    try {
      const SavedState saved = parse_state(input, "fuzz");
      // What was read is as large as what was there: nothing was made up.
      if (saved.state.values().size_bytes() + saved.tokens.size() * 4 + saved.note.size() >
          input.size()) {
        std::abort();
      }
    } catch (const Error&) {
    }
  }
}

}  // namespace gander
