// The kernels for one instruction set. A .cpp file compiled with that set's flags includes this
// inside an anonymous namespace. Only raw pointers and code with internal linkage are used: a
// template of the standard library instantiated with these flags could end up in other files.

// Each builds on those before it.
// clang-format off
#include "backend/cpu/elementwise.inl"
#include "backend/cpu/quantize.inl"
#include "backend/cpu/packed_kernels.inl"
#include "backend/cpu/float_kernels.inl"
// clang-format on

void packed_tiles(const PackedProduct& product, std::size_t begin, std::size_t end) {
  switch (product.matrix.type) {
    case DataType::F32:
      return float_tiles<DataType::F32>(product, begin, end);
    case DataType::F16:
      return float_tiles<DataType::F16>(product, begin, end);
    case DataType::BF16:
      return float_tiles<DataType::BF16>(product, begin, end);
    case DataType::Q8_0:
      return all_tiles<TileQ8_0>(product, begin, end);
    case DataType::Q4_0:
      return all_tiles<TileQ4_0>(product, begin, end);
    case DataType::Q4_K:
      return all_tiles<TileQ4_K>(product, begin, end);
    case DataType::Q5_K:
      return all_tiles<TileQ5_K>(product, begin, end);
    case DataType::Q6_K:
      return all_tiles<TileQ6_K>(product, begin, end);
  }
}

constexpr Kernels table(const char* name) {
  return {name,    packed_tiles, quantize,       normalize, shift,         decay,
          sigmoid, keys,         value_residual, head_step, bonus_and_gate};
}
