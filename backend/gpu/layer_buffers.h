#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backend/gpu/device.h"
#include "model/config.h"
#include "model/state.h"

namespace gander::gpu {

/// Activations of one token, allocated once and shared by all layers. Floats unless said.
struct LayerBuffers {
  View token;       ///< uint: what embed reads
  View x;           ///< [C] the residual stream
  View normalized;  ///< [C] after ln1 or ln2: the next shift state
  View projected;   ///< [3][C] r, k, v
  View low_rank;    ///< [rank w + a + v + g]
  View v_first;     ///< [C] layer 0's v
  View gated;       ///< [C] y ∘ g
  View hidden;      ///< [F] after relu²
  View slices;      ///< [value_slices][C rounded up to 256]: partial sums of stage E
  View counters;    ///< uint [tiles]: slices of a tile that are there, zero between dispatches
  View logits;      ///< [V]
  View maxima;      ///< uint2 [head_groups]: the largest logit of each group of the head
};

/// States of sequences, a slot each, in the order of gander::State: layer after layer, att_shift
/// [C], S [H][N][N], ffn_shift [C]. Floats; S may be halves.
struct StateBuffers {
  bool half = false;                               ///< S is halves
  View pool;                                       ///< all slots
  std::uint64_t slot_bytes = 0;                    ///< of a slot
  View all;                                        ///< of slot 0
  std::vector<View> att_shift, matrix, ffn_shift;  ///< [layer] of slot 0

  View slot(std::uint32_t index) const { return pool.part(index * slot_bytes, slot_bytes); }
  /// From a layer's part of slot 0 on, in all slots.
  View in_all_slots(const View& part) const {
    return {pool.buffer, part.offset, pool.size - part.offset};
  }
};

/// Channels of a tile of stage E: 32 lanes of 8.
inline constexpr std::uint32_t kValueTile = 256;

inline std::uint32_t value_tiles(const Config& config) {
  return (config.width + kValueTile - 1) / kValueTile;
}

/// Slices that stage E can be cut into: blocks of 256 hidden units.
inline std::uint32_t most_slices(const Config& config) {
  return (config.ffn_width + 255) / 256;
}

/// `value_slices` and `head_groups` are those of the launch shapes.
LayerBuffers make_layer_buffers(const Config& config, std::uint32_t value_slices,
                                std::uint32_t head_groups, Device& device);
/// Of a slot.
std::uint64_t state_bytes(const Config& config, bool half);
StateBuffers make_state_buffers(const Config& config, std::uint32_t slots, bool half,
                                Device& device);

/// As Device::read and write, or read_aside and write_aside.
using ReadBytes = std::function<void(const View&, std::span<std::byte>)>;
using WriteBytes = std::function<void(const View&, std::span<const std::byte>)>;

/// Copies a slot out, or replaces it, halves from and to floats; what is beyond a half's range
/// becomes the largest half.
void read_slot(const StateBuffers& buffers, std::uint32_t slot, const ReadBytes& read,
               State& state);
void write_slot(const StateBuffers& buffers, std::uint32_t slot, const WriteBytes& write,
                const State& state);

}  // namespace gander::gpu
