#include "backend/gpu/layer_buffers.h"

#include <algorithm>
#include <cstring>

#include "backend/gpu/buffer_pool.h"
#include "base/half.h"

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

std::uint64_t state_bytes(const Config& config, bool half) {
  const std::uint64_t shift = config.width * sizeof(float);
  return config.layers * (2 * shift + shift * config.head_size / (half ? 2 : 1));
}

StateBuffers make_state_buffers(const Config& config, std::uint32_t slots, bool half,
                                Device& device) {
  const std::uint64_t shift = config.width * sizeof(float);
  const std::uint64_t layer = state_bytes(config, half) / config.layers;
  const std::uint64_t matrix = layer - 2 * shift;
  StateBuffers state;
  state.half = half;
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

void read_slot(const StateBuffers& buffers, std::uint32_t slot, const ReadBytes& read,
               State& state) {
  const View view = buffers.slot(slot);
  if (!buffers.half) {
    read(view, std::as_writable_bytes(state.values()));
    return;
  }
  std::vector<std::byte> bytes(view.size);
  read(view, bytes);
  const std::byte* from = bytes.data();
  const auto take = [&](void* to, std::size_t size) {
    std::memcpy(to, from, size);
    from += size;
  };
  for (std::uint32_t layer = 0; layer < state.layers(); ++layer) {
    take(state.att_shift(layer).data(), state.att_shift(layer).size_bytes());
    for (float& value : state.matrix(layer)) {
      std::uint16_t bits = 0;
      take(&bits, sizeof bits);
      value = half_to_float(bits);
    }
    take(state.ffn_shift(layer).data(), state.ffn_shift(layer).size_bytes());
  }
}

void write_slot(const StateBuffers& buffers, std::uint32_t slot, const WriteBytes& write,
                const State& state) {
  const View view = buffers.slot(slot);
  if (!buffers.half) {
    write(view, std::as_bytes(state.values()));
    return;
  }
  constexpr float kLargest = 65504.0F;
  std::vector<std::byte> bytes(view.size);
  std::byte* to = bytes.data();
  const auto put = [&](const void* from, std::size_t size) {
    std::memcpy(to, from, size);
    to += size;
  };
  for (std::uint32_t layer = 0; layer < state.layers(); ++layer) {
    put(state.att_shift(layer).data(), state.att_shift(layer).size_bytes());
    for (const float value : state.matrix(layer)) {
      const std::uint16_t bits = float_to_half(std::clamp(value, -kLargest, kLargest));
      put(&bits, sizeof bits);
    }
    put(state.ffn_shift(layer).data(), state.ffn_shift(layer).size_bytes());
  }
  write(view, bytes);
}

}  // namespace gander::gpu
