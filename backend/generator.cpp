#include "backend/generator.h"

#include <vector>

namespace gander {

void start_fresh(Generator& generator, const SamplerSettings& settings, std::uint32_t vocab_size) {
  const std::vector<float> counts(vocab_size);
  const std::vector<std::uint8_t> uncounted(vocab_size);
  SamplerMemory memory;
  memory.random = settings.seed;
  memory.counts = counts;
  memory.uncounted = uncounted;
  generator.start(settings, memory);
}

}  // namespace gander
