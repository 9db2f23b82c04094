// Products with packed matrices: packed.h explains the layout. Included after kernels.inl.

// Calls function(constant 0), ..., function(constant N - 1).
template <int N, typename Function>
inline void repeat(Function function) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (function(std::integral_constant<int, I>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

inline int load_quad(const std::int8_t* q) {
  int quad;
  std::memcpy(&quad, q, sizeof quad);
  return quad;
}

// Sums of one token group in both halves of a tile's rows.
template <std::size_t Tokens>
using Sums = Floats[Tokens][2];
template <std::size_t Tokens>
using IntSums = Ints[Tokens][2];

// products += quads first..first + Count - 1 of a sub-tile times x. `line(quad, half)` gives the
// weights.
template <std::size_t Tokens, bool Sparse, int Count, bool Wide, typename Line>
inline void add_quads(const std::int8_t* const (&q)[Tokens], unsigned nonzero, Line line,
                      IntSums<Tokens>& products) {
  repeat<Count>([&](auto quad) {
    if (Sparse && ((nonzero >> quad) & 1U) == 0) return;
    Bytes weights[2];
    line(quad, weights);
    for (std::size_t t = 0; t < Tokens; ++t) {
      const int x = load_quad(q[t] + 4 * quad);
      for (std::size_t half = 0; half < 2; ++half) {
        products[t][half] = Wide ? add_wide_products(products[t][half], weights[half], x)
                                 : add_products(products[t][half], weights[half], x);
      }
    }
  });
}

template <std::size_t Tokens>
struct TokenRows {
  QuantizedRows row[Tokens];

  const std::int8_t* q(std::size_t t, std::size_t column) const { return row[t].q + column; }
};

inline void split_nibbles(const std::uint8_t* line, Bytes (&weights)[2]) {
  const Bytes both = load_bytes(line);
  weights[0] = both & 15;
  weights[1] = shift<-4>(both) & 15;
}

// Q8_0 and Q4_0, a group of 32 columns: y += d * scale * (products - offset * sum of q).
template <std::size_t Tokens, bool Sparse, bool Wide, typename Tile, typename Line>
inline void offset_group(const Tile& tile, int offset, const TokenRows<Tokens>& x,
                         std::size_t column, Line line, Sums<Tokens>& y) {
  const unsigned nonzero = Sparse ? x.row[0].nonzero[column / 32] : 0xff;
  if (Sparse && nonzero == 0) return;
  IntSums<Tokens> products;
  const std::int8_t* q[Tokens];
  for (std::size_t t = 0; t < Tokens; ++t) {
    const std::int16_t* sum = x.row[t].sum + column / 16;
    products[t][0] = products[t][1] = fill_ints(-offset * (sum[0] + sum[1]));
    q[t] = x.q(t, column);
  }
  add_quads<Tokens, Sparse, 8, Wide>(q, nonzero, line, products);
  for (std::size_t half = 0; half < 2; ++half) {
    const Floats d = widen_halves(tile.d + 16 * half);
    for (std::size_t t = 0; t < Tokens; ++t) {
      y[t][half] += to_floats(products[t][half]) * (d * x.row[t].scale[column / 32]);
    }
  }
}

template <std::size_t Tokens, bool Sparse>
inline void add_sub_tile(const TileQ8_0& tile, const TokenRows<Tokens>& x, std::size_t column,
                         Sums<Tokens>& y) {
  const auto line = [&](int quad, Bytes(&weights)[2]) {
    weights[0] = load_bytes(tile.q[quad][0]);
    weights[1] = load_bytes(tile.q[quad][1]);
  };
  offset_group<Tokens, Sparse, true>(tile, 128, x, column, line, y);
}

template <std::size_t Tokens, bool Sparse>
inline void add_sub_tile(const TileQ4_0& tile, const TokenRows<Tokens>& x, std::size_t column,
                         Sums<Tokens>& y) {
  const auto line = [&](int quad, Bytes(&weights)[2]) { split_nibbles(tile.q[quad], weights); };
  offset_group<Tokens, Sparse, false>(tile, 8, x, column, line, y);
}

// Q4_K and Q5_K: y += d * sum over groups of scale * x.scale * products
//                   - dmin * sum over groups of minimum * x.scaled_sum.
template <std::size_t Tokens, bool Sparse, typename Tile, typename Line>
inline void minimum_groups(const Tile& tile, const TokenRows<Tokens>& x, std::size_t column,
                           Line line, Sums<Tokens>& y) {
  Sums<Tokens> sums = {};
  Sums<Tokens> minimums = {};
  for (std::size_t group = 0; group < 8; ++group) {
    const std::size_t first = column + 32 * group;
    const unsigned nonzero = Sparse ? x.row[0].nonzero[first / 32] : 0xff;
    if (Sparse && nonzero == 0) continue;
    IntSums<Tokens> products;
    const std::int8_t* q[Tokens];
    for (std::size_t t = 0; t < Tokens; ++t) {
      products[t][0] = products[t][1] = fill_ints(0);
      q[t] = x.q(t, first);
    }
    add_quads<Tokens, Sparse, 8, false>(
        q, nonzero, [&](auto quad, Bytes(&weights)[2]) { line(group, quad, weights); }, products);
    for (std::size_t half = 0; half < 2; ++half) {
      const Floats scale = widen(tile.scale[group] + 16 * half);
      const Floats minimum = widen(tile.minimum[group] + 16 * half);
      for (std::size_t t = 0; t < Tokens; ++t) {
        sums[t][half] += to_floats(products[t][half]) * (scale * x.row[t].scale[first / 32]);
        minimums[t][half] += minimum * x.row[t].scaled_sum[first / 32];
      }
    }
  }
  for (std::size_t half = 0; half < 2; ++half) {
    const Floats d = widen_halves(tile.d + 16 * half);
    const Floats dmin = widen_halves(tile.dmin + 16 * half);
    for (std::size_t t = 0; t < Tokens; ++t) {
      // One product and one sum at a time: a compiler may fuse either product of a difference, and
      // need not choose the same one for every number of tokens.
      y[t][half] += d * sums[t][half];
      y[t][half] = y[t][half] - dmin * minimums[t][half];
    }
  }
}

template <std::size_t Tokens, bool Sparse>
inline void add_sub_tile(const TileQ4_K& tile, const TokenRows<Tokens>& x, std::size_t column,
                         Sums<Tokens>& y) {
  const auto line = [&](std::size_t group, auto quad, Bytes(&weights)[2]) {
    split_nibbles(tile.q[8 * group + quad], weights);
  };
  minimum_groups<Tokens, Sparse>(tile, x, column, line, y);
}

template <std::size_t Tokens, bool Sparse>
inline void add_sub_tile(const TileQ5_K& tile, const TokenRows<Tokens>& x, std::size_t column,
                         Sums<Tokens>& y) {
  const auto line = [&](std::size_t group, auto quad, Bytes(&weights)[2]) {
    split_nibbles(tile.q[8 * group + quad], weights);
    // The fifth bit is bit 2 (quad % 4) + half of the high line; it belongs at bit 4.
    constexpr int kBit = 2 * (quad % 4);
    const Bytes high = load_bytes(tile.high[2 * group + quad / 4]);
    weights[0] = weights[0] | (shift<4 - kBit>(high) & 16);
    weights[1] = weights[1] | (shift<3 - kBit>(high) & 16);
  };
  minimum_groups<Tokens, Sparse>(tile, x, column, line, y);
}

// Q6_K: y += d * sum over groups of 16 of scale * x.scale * (products - 32 * sum of q).
template <std::size_t Tokens, bool Sparse>
inline void add_sub_tile(const TileQ6_K& tile, const TokenRows<Tokens>& x, std::size_t column,
                         Sums<Tokens>& y) {
  Sums<Tokens> sums = {};
  for (std::size_t group = 0; group < 16; ++group) {
    const std::size_t first = column + 16 * group;
    const unsigned nonzero =
        Sparse ? (x.row[0].nonzero[first / 32] >> (4 * (group % 2))) & 15U : 15U;
    if (Sparse && nonzero == 0) continue;
    IntSums<Tokens> products;
    const std::int8_t* q[Tokens];
    for (std::size_t t = 0; t < Tokens; ++t) {
      products[t][0] = products[t][1] = fill_ints(-32 * x.row[t].sum[first / 16]);
      q[t] = x.q(t, first);
    }
    const auto line = [&](auto quad, Bytes(&weights)[2]) {
      split_nibbles(tile.q[4 * group + quad], weights);
      // The upper bits are pair 2 (quad % 2) + half of the high line; they belong at bits 4 and 5.
      constexpr int kBit = 4 * (quad % 2);
      const Bytes high = load_bytes(tile.high[2 * group + quad / 2]);
      weights[0] = weights[0] | (shift<4 - kBit>(high) & 48);
      weights[1] = weights[1] | (shift<2 - kBit>(high) & 48);
    };
    add_quads<Tokens, Sparse, 4, false>(q, nonzero, line, products);
    for (std::size_t half = 0; half < 2; ++half) {
      const Floats scale = widen(tile.scale[group] + 16 * half);
      for (std::size_t t = 0; t < Tokens; ++t) {
        sums[t][half] += to_floats(products[t][half]) * (scale * x.row[t].scale[first / 32]);
      }
    }
  }
  for (std::size_t half = 0; half < 2; ++half) {
    const Floats d = widen_halves(tile.d + 16 * half);
    for (std::size_t t = 0; t < Tokens; ++t) y[t][half] += d * sums[t][half];
  }
}

// One tile for Tokens tokens from `t` on.
template <typename Tile, std::size_t Tokens, bool Sparse>
inline void add_tile(const PackedProduct& p, std::size_t block, std::size_t tile, std::size_t t) {
  float* y = p.y + t * p.y_stride + tile * kTileRows;
  const std::size_t rows = p.matrix.rows - tile * kTileRows;
  const std::size_t part[2] = {rows < 16 ? rows : 16, rows < 16 ? 0 : rows < 32 ? rows - 16 : 16};
  Sums<Tokens> sums;
  TokenRows<Tokens> x;
  for (std::size_t i = 0; i < Tokens; ++i) {
    x.row[i] = p.x.row(t + i);
    for (std::size_t half = 0; half < 2; ++half) {
      const float* source = y + i * p.y_stride + 16 * half;
      sums[i][half] = rows >= kTileRows ? load(source) : load_part(source, part[half]);
    }
  }
  const Tile* sub_tile = reinterpret_cast<const Tile*>(p.matrix.tile(block, tile));
  const std::size_t sub_tiles = p.matrix.sub_tiles(block);
  for (std::size_t i = 0; i < sub_tiles; ++i) {
    add_sub_tile<Tokens, Sparse>(sub_tile[i], x, 256 * block + i * p.matrix.group_columns, sums);
  }
  for (std::size_t i = 0; i < Tokens; ++i) {
    for (std::size_t half = 0; half < 2; ++half) {
      float* target = y + i * p.y_stride + 16 * half;
      if (rows >= kTileRows) {
        store(target, sums[i][half]);
      } else {
        store_part(target, sums[i][half], part[half]);
      }
    }
  }
}

// Tokens whose products share unpacked weights in registers.
constexpr std::size_t kPackedTokens = kParts == 1 ? 4 : 1;

template <typename Tile>
inline void add_tiles(const PackedProduct& p, std::size_t begin, std::size_t end) {
  for (std::size_t block = 0; block < p.matrix.blocks(); ++block) {
    for (std::size_t tile = begin; tile < end; ++tile) {
      std::size_t t = 0;
      for (; t + kPackedTokens <= p.tokens; t += kPackedTokens) {
        add_tile<Tile, kPackedTokens, false>(p, block, tile, t);
      }
      for (; t < p.tokens; ++t) {
        if (p.sparse) {
          add_tile<Tile, 1, true>(p, block, tile, t);
        } else {
          add_tile<Tile, 1, false>(p, block, tile, t);
        }
      }
    }
  }
}

void packed_tiles(const PackedProduct& product, std::size_t begin, std::size_t end) {
  switch (product.matrix.type) {
    case DataType::Q8_0:
      return add_tiles<TileQ8_0>(product, begin, end);
    case DataType::Q4_0:
      return add_tiles<TileQ4_0>(product, begin, end);
    case DataType::Q4_K:
      return add_tiles<TileQ4_K>(product, begin, end);
    case DataType::Q5_K:
      return add_tiles<TileQ5_K>(product, begin, end);
    case DataType::Q6_K:
      return add_tiles<TileQ6_K>(product, begin, end);
    default:
      return;
  }
}

// scale = max |x| / 127, q = round(x / scale) to nearest even, over 32 columns.
void quantize(const float* x, const QuantizedRows& row, std::size_t begin, std::size_t end) {
  constexpr float kRound = 0x1.8p23F;  // adding and subtracting it rounds
  for (std::size_t column = begin; column < end; column += 32) {
    const Floats a = load(x + column);
    const Floats b = load(x + column + 16);
    float lanes[kLanes];
    store(lanes, each_part([&](std::size_t i) {
            const Register positive = a.part[i] > -a.part[i] ? a.part[i] : -a.part[i];
            const Register other = b.part[i] > -b.part[i] ? b.part[i] : -b.part[i];
            return positive > other ? positive : other;
          }));
    float peak = 0;
    for (const float lane : lanes) peak = lane > peak ? lane : peak;
    const float inverse = peak > 0 ? 127.0F / peak : 0.0F;
    float rounded[32];
    store(rounded, (a * inverse + kRound) - kRound);
    store(rounded + 16, (b * inverse + kRound) - kRound);
    int sums[2] = {};
    for (int i = 0; i < 32; ++i) {
      const int level = static_cast<int>(rounded[i]);
      row.q[column + i] = static_cast<std::int8_t>(level);
      sums[i / 16] += level;
    }
    unsigned nonzero = 0;
    for (int quad = 0; quad < 8; ++quad) {
      nonzero |= load_quad(row.q + column + 4 * quad) != 0 ? 1U << quad : 0U;
    }
    row.scale[column / 32] = peak / 127.0F;
    row.scaled_sum[column / 32] = peak / 127.0F * static_cast<float>(sums[0] + sums[1]);
    row.sum[column / 16] = static_cast<std::int16_t>(sums[0]);
    row.sum[column / 16 + 1] = static_cast<std::int16_t>(sums[1]);
    row.nonzero[column / 32] = static_cast<std::uint8_t>(nonzero);
  }
}

void finish(float* y, const float* sum, std::size_t n, Epilogue epilogue) {
  for_lanes(n, [&](auto get, auto put) {
    put(y, epilogue == Epilogue::Add ? get(y) + get(sum) : activate(get(y), epilogue));
  });
}

constexpr Kernels table(const char* name) {
  return {name,  matrix_rows, packed_tiles, quantize,       finish,    normalize,     shift,
          decay, sigmoid,     keys,         value_residual, head_step, bonus_and_gate};
}
