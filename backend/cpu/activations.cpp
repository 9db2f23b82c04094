#include "backend/cpu/activations.h"

#include <algorithm>
#include <new>
#include <type_traits>

#include "backend/cpu/kernels.h"

namespace gander {

namespace {

constexpr std::align_val_t kCacheLine{64};

std::size_t aligned(std::size_t floats) {
  return (floats + 15) / 16 * 16;
}

std::size_t scratch_floats(const Config& config, std::size_t tokens) {
  return 2 * aligned(config.width) + product_scratch(tokens);
}

}  // namespace

// Calls take(pointer, floats) for every array.
template <typename Take>
void Activations::lay_out(const Config& config, std::size_t tokens, Take take) {
  const auto take_numbers = [&](auto*& array, std::size_t count) {
    float* memory = nullptr;
    take(memory, (count * sizeof(*array) + sizeof(float) - 1) / sizeof(float));
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(memory);
  };
  const auto take_input = [&](Input& input, std::size_t columns) {
    take(input.values, tokens * columns);
    if (columns % 32 != 0) return;
    QuantizedRows& rows = input.quantized;
    rows.columns = columns;
    take_numbers(rows.q, tokens * columns);
    take_numbers(rows.scale, tokens * columns / 32);
    take_numbers(rows.scaled_sum, tokens * columns / 32);
    take_numbers(rows.sum, tokens * columns / 16);
    take_numbers(rows.nonzero, tokens * columns / 32);
  };
  for (float** array : {&x, &r, &k, &v, &w, &a, &g, &kk, &value_mix, &v_first}) {
    take(*array, tokens * config.width);
  }
  for (Input* input : {&xr, &xw, &xk, &xv, &xa, &xg, &y}) take_input(*input, config.width);
  take_input(h, config.ffn_width);
  take_input(low_w, config.rank_w);
  take_input(low_a, config.rank_a);
  take_input(low_v, config.rank_v);
  take_input(low_g, config.rank_g);
  take(last, tokens * config.width);
  for (float*& array : scratch) take(array, scratch_floats(config, tokens));
}

Activations::Activations(const Config& config, std::size_t tokens, unsigned threads)
    : xr(),
      xw(),
      xk(),
      xv(),
      xa(),
      xg(),
      low_w(),
      low_a(),
      low_v(),
      low_g(),
      y(),
      h(),
      scratch(threads) {
  std::size_t total = 0;
  lay_out(config, tokens, [&](float*&, std::size_t floats) { total += aligned(floats); });
  memory_.reset(static_cast<float*>(::operator new[](total * sizeof(float), kCacheLine)));
  std::fill_n(memory_.get(), total, 0.0F);
  float* next = memory_.get();
  lay_out(config, tokens, [&](float*& array, std::size_t floats) {
    array = next;
    next += aligned(floats);
  });
}

void Activations::Free::operator()(float* memory) const {
  ::operator delete[](memory, kCacheLine);
}

}  // namespace gander
