// Products with quantised matrices: packed.h explains the layout. Included by kernels.inl.
//
// A slice is sixteen rows, one Floats or Ints of them. A row tile has two slices and any number of
// tokens; a column tile has eight and one token. For more tokens a column tile is unpacked to the
// lines of row tiles, in pieces of two slices.

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

template <std::size_t Slices, std::size_t Tokens>
using Sums = Floats[Tokens][Slices];

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

// Bits bit .. of every byte of `high`, masked, above the low four: for a constant or a number.
template <std::uint8_t Mask, int Bit>
inline Bytes upper_bits(const Bytes& high, std::integral_constant<int, Bit>) {
  return shift<4 - Bit>(high) & (Mask << 4);
}
template <std::uint8_t Mask>
inline Bytes upper_bits(const Bytes& high, unsigned bit) {
  return shift<4>(shift_right(high, bit) & Mask) & (Mask << 4);
}

// load_line(source, first, i, weights): both halves of line first + i, where first is a multiple of
// four and i a constant or a number.
template <std::size_t Rows, typename Index>
inline void load_line(const TileQ8_0<Rows>& tile, std::size_t first, Index i, Bytes (&weights)[2]) {
  weights[0] = load_bytes(tile.q[first + i][0]);
  weights[1] = load_bytes(tile.q[first + i][1]);
}

template <std::size_t Rows, typename Index>
inline void load_line(const TileQ4_0<Rows>& tile, std::size_t first, Index i, Bytes (&weights)[2]) {
  split_nibbles(tile.q[first + i], weights);
}

template <std::size_t Rows, typename Index>
inline void load_line(const TileQ4_K<Rows>& tile, std::size_t first, Index i, Bytes (&weights)[2]) {
  split_nibbles(tile.q[first + i], weights);
}

template <std::size_t Rows, int I>
inline void load_line(const TileQ5_K<Rows>& tile, std::size_t first,
                      std::integral_constant<int, I> i, Bytes (&weights)[2]) {
  split_nibbles(tile.q[first + i], weights);
  const Bytes high = load_bytes(tile.high[(first + I) / 4]);
  constexpr int kBit = 2 * (I % 4);
  weights[0] = weights[0] | upper_bits<1>(high, std::integral_constant<int, kBit>{});
  weights[1] = weights[1] | upper_bits<1>(high, std::integral_constant<int, kBit + 1>{});
}
template <std::size_t Rows>
inline void load_line(const TileQ5_K<Rows>& tile, std::size_t first, unsigned i,
                      Bytes (&weights)[2]) {
  split_nibbles(tile.q[first + i], weights);
  const Bytes high = load_bytes(tile.high[(first + i) / 4]);
  weights[0] = weights[0] | upper_bits<1>(high, 2 * (i % 4));
  weights[1] = weights[1] | upper_bits<1>(high, 2 * (i % 4) + 1);
}

template <std::size_t Rows, int I>
inline void load_line(const TileQ6_K<Rows>& tile, std::size_t first,
                      std::integral_constant<int, I> i, Bytes (&weights)[2]) {
  split_nibbles(tile.q[first + i], weights);
  const Bytes high = load_bytes(tile.high[(first + I) / 2]);
  constexpr int kBit = 4 * (I % 2);
  weights[0] = weights[0] | upper_bits<3>(high, std::integral_constant<int, kBit>{});
  weights[1] = weights[1] | upper_bits<3>(high, std::integral_constant<int, kBit + 2>{});
}
template <std::size_t Rows>
inline void load_line(const TileQ6_K<Rows>& tile, std::size_t first, unsigned i,
                      Bytes (&weights)[2]) {
  split_nibbles(tile.q[first + i], weights);
  const Bytes high = load_bytes(tile.high[(first + i) / 2]);
  weights[0] = weights[0] | upper_bits<3>(high, 4 * (i % 2));
  weights[1] = weights[1] | upper_bits<3>(high, 4 * (i % 2) + 2);
}

// Thirty-two rows of a column tile, unpacked: a byte a weight, in the lines of a row tile.
struct Piece {
  const std::uint8_t (*q)[2][64];
};
template <typename Index>
inline void load_line(const Piece& piece, std::size_t first, Index i, Bytes (&weights)[2]) {
  weights[0] = load_bytes(piece.q[first + i][0]);
  weights[1] = load_bytes(piece.q[first + i][1]);
}

template <bool Wide>
inline Ints add(const Ints& sum, const Bytes& weights, int x) {
  return Wide ? add_wide_products(sum, weights, x) : add_products(sum, weights, x);
}

// products += Columns columns of the source, from `at` on, times columns `column` and on of x.
template <int Columns, bool Wide, std::size_t Slices, std::size_t Tokens, typename Source>
inline void multiply(const Source& source, std::size_t at, const TokenRows<Tokens>& x,
                     std::size_t column, Ints (&products)[Tokens][Slices]) {
  if constexpr (Slices == 2) {
    const std::int8_t* q[Tokens];
    for (std::size_t t = 0; t < Tokens; ++t) q[t] = x.q(t, column);
    repeat<Columns / 4>([&](auto quad) {
      Bytes weights[2];
      load_line(source, at / 4, quad, weights);
      for (std::size_t t = 0; t < Tokens; ++t) {
        const int value = load_quad(q[t] + 4 * quad);
        products[t][0] = add<Wide>(products[t][0], weights[0], value);
        products[t][1] = add<Wide>(products[t][1], weights[1], value);
      }
    });
  } else {
    static_assert(Slices == 8 && Tokens == 1);
    const std::int8_t* q = x.q(0, column);
    unsigned nonzero = x.row[0].nonzero[column / 32] >> (column % 32);
    if (Columns < 32) nonzero &= (1U << Columns % 32) - 1;
    for (; nonzero != 0; nonzero &= nonzero - 1) {
      const auto i = static_cast<unsigned>(__builtin_ctz(nonzero));
      Bytes weights[2];
      load_line(source, at, i, weights);
      const unsigned value = static_cast<std::uint8_t>(q[i]);
      repeat<4>([&](auto k) {
        const int shifted = static_cast<int>(value << (8 * k));
        products[0][k] = add<Wide>(products[0][k], weights[0], shifted);
        products[0][4 + k] = add<Wide>(products[0][4 + k], weights[1], shifted);
      });
    }
  }
}

// Whether a group of 32 columns can be left out; only asked for column tiles.
template <std::size_t Slices, std::size_t Tokens>
inline bool all_zero(const TokenRows<Tokens>& x, std::size_t column) {
  return Slices == 8 && x.row[0].nonzero[column / 32] == 0;
}

[[gnu::always_inline]] inline void prefetch_bytes(const void* data, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 64) {
    __builtin_prefetch(static_cast<const std::byte*>(data) + i);
  }
}

// Asks memory for the lines of a group of 32 columns that will be used.
template <typename Tile>
[[gnu::always_inline]] inline void prefetch_group(const Tile& tile, std::size_t group,
                                                  unsigned nonzero) {
  for (; nonzero != 0; nonzero &= nonzero - 1) {
    const auto i = static_cast<std::size_t>(__builtin_ctz(nonzero));
    prefetch_bytes(&tile.q[32 * group + i], sizeof tile.q[0]);
  }
}

// And for its scales.
template <std::size_t Rows>
[[gnu::always_inline]] inline void prefetch_scales(const TileQ8_0<Rows>& tile, std::size_t) {
  prefetch_bytes(tile.d, sizeof tile.d);
}
template <std::size_t Rows>
[[gnu::always_inline]] inline void prefetch_scales(const TileQ4_0<Rows>& tile, std::size_t) {
  prefetch_bytes(tile.d, sizeof tile.d);
}
template <typename Tile>
[[gnu::always_inline]] inline void prefetch_scales(const Tile& tile, std::size_t group) {
  if (group == 0) prefetch_bytes(tile.d, sizeof tile.d);
  constexpr std::size_t kShare = sizeof tile.scale / 8;
  prefetch_bytes(&tile.scale[0][0] + group * kShare, kShare);
  if constexpr (requires { tile.minimum; }) {
    if (group == 0) prefetch_bytes(tile.dmin, sizeof tile.dmin);
    prefetch_bytes(tile.minimum[group], sizeof tile.minimum[group]);
  }
}

// The column tiles' lines are too far apart for the processor to guess: those of the group 256
// columns further on are asked for.
template <typename Tile, std::size_t Slices, std::size_t Tokens>
[[gnu::always_inline]] inline void prefetch(const Tile& tile, const TokenRows<Tokens>& x,
                                            std::size_t column) {
  if constexpr (Slices == 8) {
    const std::size_t columns = x.row[0].columns;
    std::size_t next = column + 256;
    if (next >= columns) next -= columns;
    if (next >= columns) return;
    const Tile& ahead = *(&tile + 256 / Tile::kColumns);
    const std::size_t group = column % Tile::kColumns / 32;
    prefetch_scales(ahead, group);
    prefetch_group(ahead, group, x.row[0].nonzero[next / 32]);
  }
}

// Q8_0 and Q4_0, 32 columns: y += d * x.scale * (products - offset * sum of q).
template <bool Wide, typename Tile, typename Source, std::size_t Slices, std::size_t Tokens>
inline void offset_group(const Tile& tile, const Source& source, std::size_t row, int offset,
                         const TokenRows<Tokens>& x, std::size_t column, Sums<Slices, Tokens>& y) {
  prefetch<Tile, Slices>(tile, x, column);
  if (all_zero<Slices>(x, column)) return;
  Ints products[Tokens][Slices];
  for (std::size_t t = 0; t < Tokens; ++t) {
    const std::int16_t* sum = x.row[t].sum + column / 16;
    for (Ints& slice : products[t]) slice = fill_ints(-offset * (sum[0] + sum[1]));
  }
  multiply<32, Wide>(source, 0, x, column, products);
  for (std::size_t slice = 0; slice < Slices; ++slice) {
    const Floats d = widen_halves(tile.d + row + 16 * slice);
    for (std::size_t t = 0; t < Tokens; ++t) {
      const Floats scale = d * x.row[t].scale[column / 32];
      y[t][slice] = fused(to_floats(products[t][slice]), scale, y[t][slice]);
    }
  }
}

// Q4_K and Q5_K: y += d * sum over groups of scale * x.scale * products
//                   - dmin * sum over groups of minimum * x.scaled_sum.
template <typename Tile, typename Source, std::size_t Slices, std::size_t Tokens>
inline void minimum_groups(const Tile& tile, const Source& source, std::size_t row,
                           const TokenRows<Tokens>& x, std::size_t column,
                           Sums<Slices, Tokens>& y) {
  Sums<Slices, Tokens> sums = {};
  Sums<Slices, Tokens> minimums = {};
  for (std::size_t group = 0; group < 8; ++group) {
    const std::size_t first = column + 32 * group;
    prefetch<Tile, Slices>(tile, x, first);
    if (all_zero<Slices>(x, first)) continue;
    Ints products[Tokens][Slices];
    for (auto& token : products) {
      for (Ints& slice : token) slice = fill_ints(0);
    }
    multiply<32, false>(source, 32 * group, x, first, products);
    for (std::size_t slice = 0; slice < Slices; ++slice) {
      const Floats scale = widen(tile.scale[group] + row + 16 * slice);
      const Floats minimum = widen(tile.minimum[group] + row + 16 * slice);
      for (std::size_t t = 0; t < Tokens; ++t) {
        const Floats scaled = scale * x.row[t].scale[first / 32];
        sums[t][slice] = fused(to_floats(products[t][slice]), scaled, sums[t][slice]);
        const Floats sum = fill(x.row[t].scaled_sum[first / 32]);
        minimums[t][slice] = fused(minimum, sum, minimums[t][slice]);
      }
    }
  }
  for (std::size_t slice = 0; slice < Slices; ++slice) {
    const Floats d = widen_halves(tile.d + row + 16 * slice);
    const Floats dmin = widen_halves(tile.dmin + row + 16 * slice);
    for (std::size_t t = 0; t < Tokens; ++t) {
      y[t][slice] = fused(d, sums[t][slice], y[t][slice]);
      y[t][slice] = fused(dmin * -1.0F, minimums[t][slice], y[t][slice]);
    }
  }
}

// add_sub_tile(tile, source, row, x, column, y): y += rows `row` and on of a (sub-)tile, whose
// weights come from the source (the tile itself, or a piece of it unpacked), times x.
template <std::size_t Rows, typename Source, std::size_t Slices, std::size_t Tokens>
inline void add_sub_tile(const TileQ8_0<Rows>& tile, const Source& source, std::size_t row,
                         const TokenRows<Tokens>& x, std::size_t column, Sums<Slices, Tokens>& y) {
  offset_group<true>(tile, source, row, 128, x, column, y);
}
template <std::size_t Rows, typename Source, std::size_t Slices, std::size_t Tokens>
inline void add_sub_tile(const TileQ4_0<Rows>& tile, const Source& source, std::size_t row,
                         const TokenRows<Tokens>& x, std::size_t column, Sums<Slices, Tokens>& y) {
  offset_group<false>(tile, source, row, 8, x, column, y);
}
template <std::size_t Rows, typename Source, std::size_t Slices, std::size_t Tokens>
inline void add_sub_tile(const TileQ4_K<Rows>& tile, const Source& source, std::size_t row,
                         const TokenRows<Tokens>& x, std::size_t column, Sums<Slices, Tokens>& y) {
  minimum_groups(tile, source, row, x, column, y);
}
template <std::size_t Rows, typename Source, std::size_t Slices, std::size_t Tokens>
inline void add_sub_tile(const TileQ5_K<Rows>& tile, const Source& source, std::size_t row,
                         const TokenRows<Tokens>& x, std::size_t column, Sums<Slices, Tokens>& y) {
  minimum_groups(tile, source, row, x, column, y);
}
// Q6_K: y += d * sum over groups of 16 of scale * x.scale * (products - 32 * sum of q).
template <std::size_t Rows, typename Source, std::size_t Slices, std::size_t Tokens>
inline void add_sub_tile(const TileQ6_K<Rows>& tile, const Source& source, std::size_t row,
                         const TokenRows<Tokens>& x, std::size_t column, Sums<Slices, Tokens>& y) {
  Sums<Slices, Tokens> sums = {};
  for (std::size_t group = 0; group < 16; ++group) {
    const std::size_t first = column + 16 * group;
    if (group % 2 == 0) prefetch<TileQ6_K<Rows>, Slices>(tile, x, first);
    if (all_zero<Slices>(x, first)) continue;
    Ints products[Tokens][Slices];
    for (std::size_t t = 0; t < Tokens; ++t) {
      for (Ints& slice : products[t]) slice = fill_ints(-32 * x.row[t].sum[first / 16]);
    }
    multiply<16, false>(source, 16 * group, x, first, products);
    for (std::size_t slice = 0; slice < Slices; ++slice) {
      const Floats scale = widen(tile.scale[group] + row + 16 * slice);
      for (std::size_t t = 0; t < Tokens; ++t) {
        const Floats scaled = scale * x.row[t].scale[first / 32];
        sums[t][slice] = fused(to_floats(products[t][slice]), scaled, sums[t][slice]);
      }
    }
  }
  for (std::size_t slice = 0; slice < Slices; ++slice) {
    const Floats d = widen_halves(tile.d + row + 16 * slice);
    for (std::size_t t = 0; t < Tokens; ++t) {
      y[t][slice] = fused(d, sums[t][slice], y[t][slice]);
    }
  }
}

// One copy, so that compilers fuse its products and sums in one way.
[[gnu::noinline]] Floats activate_once(const Floats& y, Epilogue epilogue) {
  return activate(y, epilogue);
}

// y = epilogue(sum) for the sixteen rows from `row` on, or as many as there are.
inline void put_slice(const PackedProduct& p, std::size_t t, std::size_t row, const Floats& sum) {
  if (row >= p.matrix.rows) return;
  float* y = p.y + t * p.y_stride + row;
  const std::size_t count = p.matrix.rows - row;
  const bool whole = count >= kLanes;
  Floats value = sum;
  if (p.epilogue == Epilogue::Add) {
    value = (whole ? load(y) : load_part(y, count)) + sum;
  } else if (p.epilogue == Epilogue::SquaredRelu) {
    value = activate(sum, Epilogue::SquaredRelu);  // no sum in it
  } else if (p.epilogue != Epilogue::Store) {
    value = activate_once(sum, p.epilogue);
  }
  if (whole) {
    store(y, value);
  } else {
    store_part(y, value, count);
  }
}

// A whole tile for Tokens tokens from `t` on.
template <typename Tile, std::size_t Slices, std::size_t Tokens>
inline void whole_tile(const PackedProduct& p, std::size_t index, std::size_t t) {
  Sums<Slices, Tokens> sums = {};
  TokenRows<Tokens> x;
  for (std::size_t i = 0; i < Tokens; ++i) x.row[i] = p.x.row(t + i);
  const Tile* tile = reinterpret_cast<const Tile*>(p.matrix.tile(index));
  for (std::size_t sub = 0; sub < p.matrix.sub_tiles; ++sub) {
    add_sub_tile(tile[sub], tile[sub], 0, x, sub * Tile::kColumns, sums);
  }
  for (std::size_t i = 0; i < Tokens; ++i) {
    for (std::size_t slice = 0; slice < Slices; ++slice) {
      put_slice(p, t + i, index * Tile::kRows + 16 * slice, sums[i][slice]);
    }
  }
}

// Four lines of sixteen words, [4][16], whose words are turned: byte m of the words of lane i in
// line 0 to 3 become word i of line m, a transpose of 4 by 4 bytes in every lane. One plain loop,
// which compilers make vectors of.
inline void transpose_bytes(const std::uint32_t (&a)[4][kLanes], std::uint32_t (&out)[4][kLanes]) {
  for (std::size_t i = 0; i < kLanes; ++i) {
    const std::uint32_t even01 = (a[0][i] & 0x00ff00ffU) | ((a[1][i] & 0x00ff00ffU) << 8);
    const std::uint32_t odd01 = ((a[0][i] >> 8) & 0x00ff00ffU) | (a[1][i] & 0xff00ff00U);
    const std::uint32_t even23 = (a[2][i] & 0x00ff00ffU) | ((a[3][i] & 0x00ff00ffU) << 8);
    const std::uint32_t odd23 = ((a[2][i] >> 8) & 0x00ff00ffU) | (a[3][i] & 0xff00ff00U);
    out[0][i] = (even01 & 0xffffU) | (even23 << 16);
    out[1][i] = (odd01 & 0xffffU) | (odd23 << 16);
    out[2][i] = (even01 >> 16) | (even23 & 0xffff0000U);
    out[3][i] = (odd01 >> 16) | (odd23 & 0xffff0000U);
  }
}

// A column tile's lines of four columns become those of row tiles: [piece][quad][half][64].
template <typename Tile>
inline void unpack(const Tile& tile, std::uint8_t* pieces) {
  constexpr std::size_t kQuads = Tile::kColumns / 4;
  for (unsigned quad = 0; quad < kQuads; ++quad) {
    std::uint32_t columns[2][4][kLanes];  // [half]
    for (unsigned i = 0; i < 4; ++i) {
      Bytes weights[2];
      load_line(tile, 4 * quad, i, weights);
      std::memcpy(columns[0][i], &weights[0], 64);
      std::memcpy(columns[1][i], &weights[1], 64);
    }
    for (std::size_t half = 0; half < 2; ++half) {
      std::uint32_t lines[4][kLanes];
      transpose_bytes(columns[half], lines);
      for (std::size_t slice = 0; slice < 4; ++slice) {
        const std::size_t piece = 2 * half + slice / 2;
        std::memcpy(pieces + ((piece * kQuads + quad) * 2 + slice % 2) * 64, lines[slice], 64);
      }
    }
  }
}

template <typename Tile, std::size_t Tokens>
inline void add_piece(const PackedProduct& p, const Tile& tile, const std::uint8_t* pieces,
                      std::size_t piece, std::size_t column, std::size_t t, float* sums) {
  constexpr std::size_t kQuads = Tile::kColumns / 4;
  const Piece source = {reinterpret_cast<const std::uint8_t(*)[2][64]>(pieces) + piece * kQuads};
  Sums<2, Tokens> y;
  TokenRows<Tokens> x;
  for (std::size_t i = 0; i < Tokens; ++i) {
    x.row[i] = p.x.row(t + i);
    for (std::size_t slice = 0; slice < 2; ++slice) {
      y[i][slice] = load(sums + (t + i) * kColumnTile + kRowTile * piece + 16 * slice);
    }
  }
  add_sub_tile(tile, source, kRowTile * piece, x, column, y);
  for (std::size_t i = 0; i < Tokens; ++i) {
    for (std::size_t slice = 0; slice < 2; ++slice) {
      store(sums + (t + i) * kColumnTile + kRowTile * piece + 16 * slice, y[i][slice]);
    }
  }
}

// Tokens whose products share unpacked weights in registers.
constexpr std::size_t kPackedTokens = kParts == 1 ? 8 : 2;
// Fewer than these skip the zeros of each in a column tile, more read it whole: unpacking it costs
// as much as some tokens, and with more tokens fewer columns are zero for all.
constexpr std::size_t kUnpackedTokens = 4;

// Calls block(t, size) for blocks of all tokens: as many of kPackedTokens as there are, then
// halves.
template <std::size_t Size = kPackedTokens, typename Block>
inline void in_blocks(std::size_t tokens, Block block, std::size_t t = 0) {
  for (; t + Size <= tokens; t += Size) block(t, std::integral_constant<std::size_t, Size>{});
  if constexpr (Size > 1) in_blocks<Size / 2>(tokens, block, t);
}

// A column tile for all tokens, each sub-tile unpacked once.
template <typename Tile>
inline void unpacked_tile(const PackedProduct& p, std::size_t index) {
  float* sums = p.scratch;  // [tokens][kColumnTile]
  std::uint8_t* pieces = reinterpret_cast<std::uint8_t*>(sums + p.tokens * kColumnTile);
  for (std::size_t i = 0; i < p.tokens * kColumnTile; ++i) sums[i] = 0;
  const Tile* tile = reinterpret_cast<const Tile*>(p.matrix.tile(index));
  for (std::size_t sub = 0; sub < p.matrix.sub_tiles; ++sub) {
    unpack(tile[sub], pieces);
    const std::size_t column = sub * Tile::kColumns;
    for (std::size_t piece = 0; piece < kColumnTile / kRowTile; ++piece) {
      in_blocks(p.tokens, [&](std::size_t t, auto tokens) {
        add_piece<Tile, tokens()>(p, tile[sub], pieces, piece, column, t, sums);
      });
    }
  }
  for (std::size_t t = 0; t < p.tokens; ++t) {
    for (std::size_t row = 0; row < kColumnTile; row += kLanes) {
      put_slice(p, t, index * kColumnTile + row, load(sums + t * kColumnTile + row));
    }
  }
}

template <template <std::size_t> typename Tile>
inline void all_tiles(const PackedProduct& p, std::size_t begin, std::size_t end) {
  for (std::size_t index = begin; index < end; ++index) {
    if (p.matrix.tile_rows == kRowTile) {
      in_blocks(p.tokens, [&](std::size_t t, auto tokens) {
        whole_tile<Tile<kRowTile>, 2, tokens()>(p, index, t);
      });
    } else if (p.tokens < kUnpackedTokens) {
      for (std::size_t t = 0; t < p.tokens; ++t) whole_tile<Tile<kColumnTile>, 8, 1>(p, index, t);
    } else {
      unpacked_tile<Tile<kColumnTile>>(p, index);
    }
  }
}
