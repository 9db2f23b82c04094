#pragma once

#include <array>
#include <cstdint>

#include "backend/gpu/device.h"
#include "backend/gpu/sampler_buffers.h"
#include "model/config.h"

namespace gander::gpu {

/// What the CPU writes for a step.
struct BatchTables {
  View rows;       ///< BatchRow [rows]
  View sequences;  ///< BatchSequence [rows]
  View wanted;     ///< uint [logits]: rows that want logits
  View sampled;    ///< uint [logits]: slot of the sampler of these rows, or GANDER_NOT_SAMPLED
  View counts;     ///< uint [3]
};

/// Activations of a step of up to `rows` tokens, shared by all layers and shapes. Floats unless
/// said; halves have rows of a multiple of 64, with zeros at the end.
struct BatchBuffers {
  std::uint32_t rows = 0, logit_rows = 0;         ///< most of a step
  std::uint32_t padded_rows = 0;                  ///< rows that arrays have
  std::uint32_t input_stride = 0;                 ///< halves: C rounded up
  std::uint32_t hidden_stride = 0;                ///< halves: F rounded up
  std::array<std::uint32_t, 4> rank_stride = {};  ///< halves, of w a v g
  std::array<std::uint32_t, 4> rank_begin = {};   ///< in low_rank

  std::array<BatchTables, 2> tables;  ///< of two steps after each other
  std::array<View, 2> x;              ///< [rows][C] the residual stream, before and after a stage
  View att_last;                      ///< [rows][C] after ln1: of last rows, the next shift state
  View ffn_last;                      ///< [rows][C] after ln2
  View inputs;     ///< half [6][rows][C]: of r w k v a g; the first also gated, D's, the head's
  View projected;  ///< [3][rows][C] r, k, v
  View low_rank;   ///< half [rows][rank] of w, a, v, g
  View products;   ///< [4][rows][C]: of the second low-rank matrices of w, a, v, g
  View v_first;    ///< [rows][C] layer 0's v
  View values;     ///< [rows][C] v after the mix
  View bonuses;    ///< [rows][H]
  View y;          ///< [rows][C]
  View hidden;     ///< half [rows][F]
  View slices;     ///< [slices][rows][C]
  View logits;     ///< [logit_rows][V]
  View best;       ///< uint [logit_rows]
  SamplerBuffers samplers;  ///< of all slots
};

BatchBuffers make_batch_buffers(const Config& config, std::uint32_t rows, std::uint32_t slots,
                                Device& device);

}  // namespace gander::gpu
