#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "backend/gpu/batch/batch_buffers.h"
#include "backend/gpu/batch/batch_parameters.h"
#include "backend/gpu/batch/batch_shape.h"
#include "backend/gpu/layer_buffers.h"
#include "backend/gpu/model_weights.h"
#include "backend/gpu/recorder.h"

namespace gander::gpu {

/// What the programs of batches are recorded over.
struct BatchMemory {
  const ModelWeights* weights = nullptr;
  /// The matrices lie as the token kernel reads them (persistent/token_weights.h), and tensor cores
  /// multiply; else as in the file.
  bool tensor = false;
  StateBuffers state;
  BatchBuffers buffers;
};

/// Records the kernels of kernels/batch: nine dispatches a layer.
class BatchDispatcher {
 public:
  /// `memory` and `recorder` outlive the dispatcher.
  BatchDispatcher(const Recorder& recorder, const BatchMemory& memory, const BatchTables& tables,
                  const BatchShape& shape);

  Program record();

 private:
  /// A matrix of a product, where its input and output begin, and what becomes of the sums.
  struct Factor {
    const MatrixView* matrix;
    std::uint32_t input, input_stride, output, output_stride;
    std::uint32_t activation = GANDER_BATCH_FLOATS;
  };

  const Config& config() const { return recorder_.config(); }
  const BatchBuffers& buffers() const { return memory_.buffers; }
  /// Slices that a matrix of C rows leaves; 0: it adds to x.
  std::uint32_t slices_of(std::uint32_t columns) const {
    const std::uint32_t slices = slices_for(config(), columns);
    return slices > 1 ? slices : 0;
  }
  const View& x() const { return buffers().x[turn_]; }
  std::uint32_t vector_floats() const { return buffers().padded_rows * config().width; }
  std::uint32_t input_halves() const { return buffers().padded_rows * buffers().input_stride; }
  std::uint32_t slot_floats() const {
    return static_cast<std::uint32_t>(memory_.state.slot_bytes / sizeof(float));
  }

  /// A LayerNorm's weights, its token shift's, and what it leaves.
  struct Shift {
    const View &norm, &mix;
    std::uint32_t mixes;
    const View &state, &last;
  };
  /// What the stage before left: its slices, and what becomes its shift state.
  struct Before {
    std::uint32_t slices = 0;
    const View* kept = nullptr;
    const View* shift = nullptr;
  };

  void embed(Program& program);
  void mix(Program& program, std::uint32_t layer, const Before& before, const Shift& shift);
  void multiply(Program& program, std::uint32_t layer, std::span<const Factor> factors,
                std::uint32_t count, const View& inputs, const View& floats,
                const View& halves) const;
  /// Adds to x, or leaves slices.
  void multiply_residual(Program& program, std::uint32_t layer, const MatrixView& matrix,
                         const View& inputs, std::uint32_t input_stride, float scale) const;
  void time_mix(Program& program, std::uint32_t layer);
  void recurrence(Program& program, std::uint32_t layer) const;
  void channel_mix(Program& program, std::uint32_t layer);
  void head(Program& program) const;

  /// The types that a product's kernel is compiled for, whose matrices have those in `own`.
  /// NVIDIA's kernels for few tokens are compiled for all types of the model: one instead of three
  /// or four for each tile, which a first start waits for. Those for many would be 2 % slower.
  std::uint32_t types_of(const ProductTile& tile, std::uint32_t own) const {
    return memory_.tensor && tile.rows == GANDER_BATCH_BLOCK_ROWS ? row_types_ : own;
  }

  Launch per_row(std::uint32_t rows, std::uint32_t scratch_floats) const;
  std::uint32_t rows_of(std::uint32_t count) const {
    return count == GANDER_COUNT_LOGITS ? shape_.logits : shape_.rows;
  }

  const Recorder& recorder_;
  const BatchMemory& memory_;
  const BatchTables& tables_;
  BatchShape shape_;
  std::uint32_t row_types_;  // bits of the types of matrices that are multiplied by rows
  std::size_t turn_ = 0;     // which x a stage finds
};

}  // namespace gander::gpu
