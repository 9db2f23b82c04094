#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "model/checkpoint/gguf_writer.h"
#include "model/matrix_encoder.h"
#include "model/tokenizer/tokenizer.h"
#include "model/weights.h"

namespace gander {

/// Chooses the type a matrix is stored in, by its GGUF name ("blk.3.time_mix_key.weight"). Its
/// columns must be a multiple of the type's block.
using ChooseType = std::function<DataType(std::string_view name, const Matrix& matrix)>;

/// Stores the large matrices as `large` (as F16 where the columns are no multiple of its block)
/// and the low-rank matrices, which tolerate no more than 8 bits of rounding, as `low_rank`.
ChooseType store_as(DataType large, DataType low_rank);

/// The keys a model's file begins with: general.architecture, rwkv7.* and, unless `tokenizer` is
/// null, tokenizer.ggml.* with an entry for each id of the model. Throws Error when the vocabulary
/// has more ids than the model.
GgufMetadata model_metadata(const Config& config, const Tokenizer* tokenizer);

struct ExportOptions {
  /// Follows the keys that are written anyway (general.architecture, rwkv7.*, tokenizer.ggml.*).
  GgufMetadata metadata = {};
  Rounding rounding = Rounding::Nearest;
  const Importance* importance = nullptr;
  unsigned threads = 1;
  /// Called with the number of weights written so far; returns false to give up. May be empty.
  std::function<bool(std::uint64_t weights)> progress = {};
};

/// Writes a model as llama.cpp's conversion lays it out: its names, shapes and keys, vectors and
/// the fused lerps in F32, the idle value mix of layer 0 as a copy of a0, a1, a2. `tokenizer` may
/// be null. No more than a few megabytes are in memory at a time. False when it was given up; then,
/// and after an Error, there is no file.
bool export_gguf(const std::string& path, const Weights& weights, const Tokenizer* tokenizer,
                 const ChooseType& choose_type, const ExportOptions& options = {});

/// The tensors that export_gguf writes, in its order.
std::vector<GgufTensor> exported_tensors(const Weights& weights, const ChooseType& choose_type);

}  // namespace gander
