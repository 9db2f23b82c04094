#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/tensor.h"
#include "model/tokenizer/tokenizer.h"

namespace gander {

/// The shape of a released model, or "tiny": all stages and next to no work.
struct NamedShape {
  std::string_view name;
  Config config;
};
std::span<const NamedShape> synthetic_shapes();

struct SyntheticOptions {
  Config config;
  DataType large = DataType::Q4_K;    ///< F16 where the columns are no multiple of its block
  DataType low_rank = DataType::F16;  ///< the same
  double zeros = 0.87;                ///< share of hidden units that are zero after relu²
  std::uint64_t seed = 1;
};

/// A vocabulary of that many ids: each byte, then words of letters, the last few ids unused.
Tokenizer synthetic_tokenizer(std::uint32_t vocab_size);

/// Writes a model with random weights, laid out as export_gguf does, a piece at a time.
///
/// Every part has inputs and outputs of about unit size, so that activations neither vanish nor
/// grow. For the wanted share of zeros the normalised input of channel mixing has a few channels
/// that are constant (LayerNorm weight 0), and each row of the key matrix a negative weight for
/// them, which shifts its sum. Throws Error when the disk has too little room.
void write_synthetic_file(const std::string& path, const SyntheticOptions& options);

/// Bytes such a file has, to the nearest few megabytes.
std::uint64_t synthetic_file_size(const SyntheticOptions& options);

}  // namespace gander
