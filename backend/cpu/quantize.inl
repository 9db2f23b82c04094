// Activations in 8 bits. Included by kernels.inl.

// scale = max |x| / 127, q = round(x / scale) to nearest even, over 32 columns.
void quantize(const float* x, const QuantizedRows& row, std::size_t begin, std::size_t end) {
  constexpr float kRound = 0x1.8p23F;  // adding and subtracting it rounds
  for (std::size_t column = begin; column < end; column += 32) {
    const Floats values[2] = {load(x + column), load(x + column + 16)};
    const Floats first = absolute(values[0]);
    const Floats second = absolute(values[1]);
    const float peak = largest_lane(each_part([&](std::size_t i) {
      return first.part[i] > second.part[i] ? first.part[i] : second.part[i];
    }));
    const float inverse = peak > 0 ? 127.0F / peak : 0.0F;
    const float scale = peak / 127.0F;
    float sums[2];
    std::uint32_t nonzero = 0;
    for (std::size_t half = 0; half < 2; ++half) {
      const Floats rounded = (values[half] * inverse + kRound) - kRound;
      sums[half] = sum_lanes(rounded);  // of integers: exact
      store_levels(row.q + column + 16 * half, rounded);
      nonzero |= nonzero_lanes(rounded) << (16 * half);
      row.sum[column / 16 + half] = static_cast<std::int16_t>(sums[half]);
    }
    row.scale[column / 32] = scale;
    row.scaled_sum[column / 32] = scale * (sums[0] + sums[1]);
    row.nonzero[column / 32] = nonzero;
  }
}
