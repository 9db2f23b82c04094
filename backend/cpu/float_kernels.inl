// Products with packed matrices of floats: tiles of 32 rows, column after column. Included by
// kernels.inl.

template <DataType Type>
struct StoredNumber {
  using Number = std::uint16_t;
};
template <>
struct StoredNumber<DataType::F32> {
  using Number = float;
};

template <DataType Type>
using Number = typename StoredNumber<Type>::Number;

template <DataType Type>
inline Floats widen_numbers(const Number<Type>* p) {
  if constexpr (Type == DataType::F32) return load(p);
  if constexpr (Type == DataType::F16) return widen_halves(p);
  if constexpr (Type == DataType::BF16) return widen_bfloats(p);
}

// Bit i is set when x[i] is not zero, for up to 32 columns.
inline std::uint32_t nonzero_columns(const float* x, std::size_t count) {
  if (count >= 32) return nonzero_lanes(load(x)) | nonzero_lanes(load(x + 16)) << 16;
  if (count >= 16) {
    return nonzero_lanes(load(x)) | nonzero_lanes(load_part(x + 16, count - 16)) << 16;
  }
  return nonzero_lanes(load_part(x, count));
}

// Tiles tiles for one token: as many sums at once hide the latency of the additions. When few
// columns are left, those of 64 columns further on are asked for: the processor does not guess
// them.
template <DataType Type, std::size_t Tiles>
inline void float_columns(const PackedProduct& p, std::size_t index) {
  constexpr std::size_t kLookAhead = 64;
  constexpr int kFew = 24;
  const std::size_t columns = p.matrix.columns;
  const Number<Type>* tile[Tiles];
  for (std::size_t i = 0; i < Tiles; ++i) {
    tile[i] = reinterpret_cast<const Number<Type>*>(p.matrix.tile(index + i));
  }
  Floats sums[Tiles][2] = {};
  for (std::size_t first = 0; first < columns; first += 32) {
    if (first + kLookAhead < columns) {
      const std::size_t next = first + kLookAhead;
      std::uint32_t ahead = nonzero_columns(p.values + next, columns - next);
      if (__builtin_popcount(ahead) < kFew) {
        for (; ahead != 0; ahead &= ahead - 1) {
          const std::size_t column = next + static_cast<std::size_t>(__builtin_ctz(ahead));
          for (std::size_t i = 0; i < Tiles; ++i) {
            prefetch_bytes(tile[i] + kRowTile * column, kRowTile * sizeof(Number<Type>));
          }
        }
      }
    }
    std::uint32_t nonzero = nonzero_columns(p.values + first, columns - first);
    for (; nonzero != 0; nonzero &= nonzero - 1) {
      const std::size_t column = first + static_cast<std::size_t>(__builtin_ctz(nonzero));
      const Floats x = fill(p.values[column]);
      for (std::size_t i = 0; i < Tiles; ++i) {
        const Number<Type>* line = tile[i] + kRowTile * column;
        sums[i][0] = fused(widen_numbers<Type>(line), x, sums[i][0]);
        sums[i][1] = fused(widen_numbers<Type>(line + 16), x, sums[i][1]);
      }
    }
  }
  for (std::size_t i = 0; i < Tiles; ++i) {
    put_slice(p, 0, (index + i) * kRowTile, sums[i][0]);
    put_slice(p, 0, (index + i) * kRowTile + 16, sums[i][1]);
  }
}

// One tile for Tokens tokens. Every sum has the order it has for one token: a zero adds nothing.
template <DataType Type, std::size_t Tokens>
inline void float_tile(const PackedProduct& p, std::size_t index, std::size_t t) {
  const auto* tile = reinterpret_cast<const Number<Type>*>(p.matrix.tile(index));
  const std::size_t columns = p.matrix.columns;
  const float* x = p.values + t * columns;
  Floats sums[Tokens][2] = {};
  for (std::size_t column = 0; column < columns; ++column) {
    const Floats weights[2] = {widen_numbers<Type>(tile + kRowTile * column),
                               widen_numbers<Type>(tile + kRowTile * column + 16)};
    for (std::size_t i = 0; i < Tokens; ++i) {
      const Floats value = fill(x[i * columns + column]);
      sums[i][0] = fused(weights[0], value, sums[i][0]);
      sums[i][1] = fused(weights[1], value, sums[i][1]);
    }
  }
  for (std::size_t i = 0; i < Tokens; ++i) {
    put_slice(p, t + i, index * kRowTile, sums[i][0]);
    put_slice(p, t + i, index * kRowTile + 16, sums[i][1]);
  }
}

template <DataType Type>
inline void float_tiles(const PackedProduct& p, std::size_t begin, std::size_t end) {
  if (p.tokens == 1) {
    constexpr std::size_t kTiles = kParts == 1 ? 4 : 1;
    std::size_t index = begin;
    for (; index + kTiles <= end; index += kTiles) float_columns<Type, kTiles>(p, index);
    if (kTiles > 2 && index + 2 <= end) {
      float_columns<Type, 2>(p, index);
      index += 2;
    }
    for (; index < end; ++index) float_columns<Type, 1>(p, index);
    return;
  }
  for (std::size_t index = begin; index < end; ++index) {
    in_blocks(p.tokens,
              [&](std::size_t t, auto tokens) { float_tile<Type, tokens()>(p, index, t); });
  }
}
