#include "backend/gpu/batch/batch_buffers.h"

#include <algorithm>

#include "backend/gpu/batch/batch_parameters.h"
#include "backend/gpu/batch/batch_shape.h"
#include "backend/gpu/buffer_pool.h"
#include "backend/gpu/round_up.h"

namespace gander::gpu {
namespace {

// Of 512 rows' logits a model of 65,536 tokens has 134 MB.
constexpr std::uint32_t kMostLogitRows = 512;
// Of the largest tile: what lies in a tile is read, also past the last row.
constexpr std::uint32_t kLargestTileRows = 256;

}  // namespace

BatchBuffers make_batch_buffers(const Config& config, std::uint32_t rows, std::uint32_t slots,
                                Device& device) {
  BatchBuffers buffers;
  buffers.rows = rows;
  buffers.logit_rows = std::min(rows, kMostLogitRows);
  buffers.padded_rows = round_up(rows, kLargestTileRows);
  buffers.input_stride = round_up(config.width, GANDER_BATCH_COLUMNS);
  buffers.hidden_stride = round_up(config.ffn_width, GANDER_BATCH_COLUMNS);
  const std::uint64_t padded = buffers.padded_rows;
  const std::array<std::uint32_t, 4> ranks = {config.rank_w, config.rank_a, config.rank_v,
                                              config.rank_g};
  std::uint32_t rank_halves = 0;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    buffers.rank_stride[i] = round_up(ranks[i], GANDER_BATCH_COLUMNS);
    buffers.rank_begin[i] = rank_halves;
    rank_halves += buffers.rank_stride[i] * buffers.padded_rows;
  }
  constexpr std::uint64_t kHalf = 2;
  const std::uint64_t vectors = padded * config.width * sizeof(float);
  BufferPool pool;
  for (BatchTables& tables : buffers.tables) {
    pool.add(tables.rows, rows * sizeof(BatchRow));
    pool.add(tables.sequences, rows * sizeof(BatchSequence));
    pool.add(tables.wanted, buffers.logit_rows * sizeof(std::uint32_t));
    pool.add(tables.sampled, buffers.logit_rows * sizeof(std::uint32_t));
    pool.add(tables.counts, 3 * sizeof(std::uint32_t));
  }
  for (View& x : buffers.x) pool.add(x, vectors);
  pool.add(buffers.att_last, vectors);
  pool.add(buffers.ffn_last, vectors);
  pool.add(buffers.inputs, 6 * padded * buffers.input_stride * kHalf);
  pool.add(buffers.projected, 3 * vectors);
  pool.add(buffers.low_rank, rank_halves * kHalf);
  pool.add(buffers.products, 4 * vectors);
  pool.add(buffers.v_first, vectors);
  pool.add(buffers.values, vectors);
  pool.add(buffers.bonuses, padded * config.heads * sizeof(float));
  pool.add(buffers.y, vectors);
  pool.add(buffers.hidden, padded * buffers.hidden_stride * kHalf);
  const std::uint32_t slices =
      std::max(slices_for(config, config.width), slices_for(config, config.ffn_width));
  pool.add(buffers.slices, slices * vectors);
  pool.add(buffers.logits, std::uint64_t{buffers.logit_rows} * config.vocab_size * sizeof(float));
  pool.add(buffers.best, buffers.logit_rows * sizeof(std::uint32_t));
  buffers.samplers.add_to(pool, config.vocab_size, slots);
  pool.allocate(device, "activations of batches");
  return buffers;
}

}  // namespace gander::gpu
