#include "backend/gpu/layer_buffers.h"

#include "backend/gpu/buffer_pool.h"

namespace gander::gpu {

LayerBuffers make_layer_buffers(const Config& config, std::uint32_t value_slices,
                                std::uint32_t head_groups, Device& device) {
  const auto floats = [](std::uint64_t count) { return count * sizeof(float); };
  const std::uint64_t width = config.width;
  const std::uint64_t tiles = value_tiles(config);
  LayerBuffers buffers;
  BufferPool pool;
  pool.add(buffers.token, sizeof(std::uint32_t));
  pool.add(buffers.x, floats(width));
  pool.add(buffers.normalized, floats(width));
  pool.add(buffers.projected, floats(3 * width));
  pool.add(buffers.low_rank, floats(config.ranks()));
  pool.add(buffers.v_first, floats(width));
  pool.add(buffers.gated, floats(width));
  pool.add(buffers.hidden, floats(config.ffn_width));
  pool.add(buffers.slices, floats(value_slices * tiles * kValueTile));
  pool.add(buffers.counters, tiles * sizeof(std::uint32_t));
  pool.add(buffers.logits, floats(config.vocab_size));
  pool.add(buffers.maxima, std::uint64_t{head_groups} * 2 * sizeof(std::uint32_t));
  pool.allocate(device, "activations");
  return buffers;
}

StateBuffers make_state_buffers(const Config& config, std::uint32_t slots, Device& device) {
  const std::uint64_t shift = config.width * sizeof(float);
  const std::uint64_t matrix = shift * config.head_size;
  const std::uint64_t layer = 2 * shift + matrix;
  StateBuffers state;
  state.slot_bytes = layer * config.layers;
  const std::uint64_t bytes = slots * state.slot_bytes;
  state.pool = {device.allocate(bytes, "state"), 0, bytes};
  state.all = state.slot(0);
  for (std::uint32_t i = 0; i < config.layers; ++i) {
    state.att_shift.push_back(state.all.part(i * layer, shift));
    state.matrix.push_back(state.all.part(i * layer + shift, matrix));
    state.ffn_shift.push_back(state.all.part(i * layer + shift + matrix, shift));
  }
  return state;
}

}  // namespace gander::gpu
