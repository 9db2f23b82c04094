// Products with quantised matrices for many tokens on AMX. Included after kernels.inl.
//
// One instruction multiplies sixteen tokens by sixteen rows (a slice) over a group of columns; the
// lines of a row tile are in the order it wants. What is left is scaling the groups' sums, so those
// of several groups are stored first: their scales then stay in registers for all tokens. Integer
// sums are exact and floats are added in the order of packed_kernels.inl, so the bits are the same.

constexpr std::size_t kBlock = 16;  // tokens
constexpr std::size_t kGroups = 8;  // whose sums are stored before they are scaled
constexpr std::size_t kFewest = 8;  // tokens for which this pays

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// What was written must be in memory before tile instructions read it: compilers' intrinsics do not
// say that they do.
inline void finish_writes() {
  asm volatile("" : : : "memory");
}

// Registers 0 and 1: sums of two slices; 2: activations; 3 and 4: weights of two slices.
inline void configure(std::size_t tokens, std::size_t columns) {
  TileConfig config;
  for (const int tile : {0, 1, 2, 3, 4}) {
    config.rows[tile] = static_cast<std::uint8_t>(tile < 3 ? tokens : columns / 4);
    config.row_bytes[tile] = static_cast<std::uint16_t>(tile == 2 ? columns : 64);
  }
  finish_writes();
  asm volatile("ldtilecfg %0" : : "m"(config));
}

using GroupSums = Ints[kGroups][kBlock][2];
using BlockSums = Floats[kBlock][2];

struct Block {
  QuantizedRows x;  // from the block's first token on
  std::size_t tokens;
};

// products[group][token][slice] for `groups` groups of Columns columns, the first at `column` of x;
// `lines` are its weights, [quad][half][64].
template <int Columns>
inline void multiply_groups(const std::uint8_t* lines, const Block& block, std::size_t column,
                            std::size_t groups, GroupSums& products) {
  finish_writes();
  for (std::size_t group = 0; group < groups; ++group) {
    const std::uint8_t* weights = lines + group * Columns / 4 * 128;
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(2, block.x.q + column + group * Columns, block.x.columns);
    _tile_loadd(3, weights, 128);
    _tile_loadd(4, weights + 64, 128);
    _tile_dpbsud(0, 2, 3);
    _tile_dpbsud(1, 2, 4);
    _tile_stored(0, &products[group][0][0], sizeof products[0][0]);
    _tile_stored(1, &products[group][0][1], sizeof products[0][0]);
  }
}

// sums += scale * x.scale * (products - offset * sum of q), group after group.
template <int Columns, int Offset>
inline void add_scaled(const GroupSums& products, const Floats (&scale)[kGroups][2],
                       const Block& block, std::size_t column, std::size_t groups,
                       BlockSums& sums) {
  for (std::size_t slice = 0; slice < 2; ++slice) {
    for (std::size_t t = 0; t < block.tokens; ++t) {
      const QuantizedRows row = block.x.row(t);
      Floats total = sums[t][slice];
      for (std::size_t group = 0; group < groups; ++group) {
        const std::size_t first = column + group * Columns;
        Ints product = products[group][t][slice];
        if constexpr (Offset != 0) {
          const std::int16_t* sum = row.sum + first / 16;
          const int offset = -Offset * (Columns == 32 ? sum[0] + sum[1] : sum[0]);
          product.v = _mm512_add_epi32(product.v, _mm512_set1_epi32(offset));
        }
        total += to_floats(product) * (scale[group][slice] * row.scale[first / 32]);
      }
      sums[t][slice] = total;
    }
  }
}

// add_block(tile, row, lines, block, column, count, y) adds to y the product with rows `row` to
// row + 31 of `count` neighbouring (sub-)tiles, whose first column is `column` of x.
template <int Offset, typename Tile>
inline void add_offset_block(const Tile* tile, std::size_t row, const std::uint8_t* lines,
                             const Block& block, std::size_t column, std::size_t count,
                             BlockSums& y) {
  GroupSums products;
  Floats scale[kGroups][2];
  multiply_groups<32>(lines, block, column, count, products);
  for (std::size_t group = 0; group < count; ++group) {
    for (std::size_t slice = 0; slice < 2; ++slice) {
      scale[group][slice] = widen_halves(tile[group].d + row + 16 * slice);
    }
  }
  add_scaled<32, Offset>(products, scale, block, column, count, y);
}
template <std::size_t Rows>
inline void add_block(const TileQ8_0<Rows>* tile, std::size_t row, const std::uint8_t* lines,
                      const Block& block, std::size_t column, std::size_t count, BlockSums& y) {
  add_offset_block<128>(tile, row, lines, block, column, count, y);
}
template <std::size_t Rows>
inline void add_block(const TileQ4_0<Rows>* tile, std::size_t row, const std::uint8_t* lines,
                      const Block& block, std::size_t column, std::size_t count, BlockSums& y) {
  add_offset_block<8>(tile, row, lines, block, column, count, y);
}

template <std::size_t Rows>
inline void add_block(const TileQ6_K<Rows>* tile, std::size_t row, const std::uint8_t* lines,
                      const Block& block, std::size_t column, std::size_t, BlockSums& y) {
  BlockSums sums = {};
  for (std::size_t first = 0; first < 16; first += kGroups) {
    GroupSums products;
    Floats scale[kGroups][2];
    multiply_groups<16>(lines + first * 4 * 128, block, column + 16 * first, kGroups, products);
    for (std::size_t group = 0; group < kGroups; ++group) {
      for (std::size_t slice = 0; slice < 2; ++slice) {
        scale[group][slice] = widen(tile->scale[first + group] + row + 16 * slice);
      }
    }
    add_scaled<16, 32>(products, scale, block, column + 16 * first, kGroups, sums);
  }
  for (std::size_t slice = 0; slice < 2; ++slice) {
    const Floats d = widen_halves(tile->d + row + 16 * slice);
    for (std::size_t t = 0; t < block.tokens; ++t) y[t][slice] += d * sums[t][slice];
  }
}

// Q4_K and Q5_K.
template <typename Tile>
inline void add_block(const Tile* tile, std::size_t row, const std::uint8_t* lines,
                      const Block& block, std::size_t column, std::size_t, BlockSums& y) {
  GroupSums products;
  BlockSums sums = {};
  Floats scale[kGroups][2];
  multiply_groups<32>(lines, block, column, kGroups, products);
  for (std::size_t group = 0; group < kGroups; ++group) {
    for (std::size_t slice = 0; slice < 2; ++slice) {
      scale[group][slice] = widen(tile->scale[group] + row + 16 * slice);
    }
  }
  add_scaled<32, 0>(products, scale, block, column, kGroups, sums);
  for (std::size_t slice = 0; slice < 2; ++slice) {
    const Floats d = widen_halves(tile->d + row + 16 * slice);
    const Floats dmin = widen_halves(tile->dmin + row + 16 * slice);
    Floats minimum[kGroups];
    for (std::size_t group = 0; group < kGroups; ++group) {
      minimum[group] = widen(tile->minimum[group] + row + 16 * slice);
    }
    for (std::size_t t = 0; t < block.tokens; ++t) {
      const float* scaled_sum = block.x.row(t).scaled_sum + column / 32;
      Floats minimums = {};
      for (std::size_t group = 0; group < kGroups; ++group) {
        minimums += minimum[group] * scaled_sum[group];
      }
      y[t][slice] += d * sums[t][slice];
      y[t][slice] = y[t][slice] - dmin * minimums;
    }
  }
}

// The lines of 256 columns of a row tile in bytes, [quad][half][64].
template <typename Tile>
inline void unpack_lines(const Tile* tile, std::size_t count, std::uint8_t* lines) {
  constexpr unsigned kQuads = Tile::kColumns / 4;
  for (std::size_t sub = 0; sub < count; ++sub) {
    for (unsigned quad = 0; quad < kQuads; ++quad) {
      Bytes weights[2];
      load_line(tile[sub], 0, quad, weights);
      std::memcpy(lines, &weights[0], 64);
      std::memcpy(lines + 64, &weights[1], 64);
      lines += 128;
    }
  }
}

template <typename Tile>
inline void unpack_columns(const Tile* tile, std::size_t count, std::uint8_t* lines) {
  if constexpr (Tile::kRows == kRowTile) {
    unpack_lines(tile, count, lines);
  } else {
    for (std::size_t sub = 0; sub < count; ++sub) {
      unpack(tile[sub], lines + sub * Tile::kColumns / 4 * 128, 64);
    }
  }
}

// A tile of either kind for all tokens, 256 columns at a time; a column tile is four pieces.
// `configured` is the number of tokens that the tile registers are set up for.
template <typename Tile>
inline void amx_tile(const PackedProduct& p, std::size_t index, std::size_t& configured) {
  constexpr std::size_t kPieces = Tile::kRows / kRowTile;
  constexpr std::size_t kSubTiles = 256 / Tile::kColumns;
  auto* sums = reinterpret_cast<Floats*>(p.scratch);  // [piece][token][2]
  auto* lines = reinterpret_cast<std::uint8_t*>(sums + kPieces * p.tokens * 2);
  for (std::size_t i = 0; i < kPieces * p.tokens * 2; ++i) sums[i] = {};
  const Tile* tile = reinterpret_cast<const Tile*>(p.matrix.tile(index));
  for (std::size_t sub = 0; sub < p.matrix.sub_tiles; sub += kSubTiles) {
    const std::size_t left = p.matrix.sub_tiles - sub;
    const std::size_t count = left < kSubTiles ? left : kSubTiles;
    unpack_columns(tile + sub, count, lines);
    for (std::size_t t = 0; t < p.tokens; t += kBlock) {
      const std::size_t tokens = p.tokens - t < kBlock ? p.tokens - t : kBlock;
      if (configured != tokens) configure(configured = tokens, Tile::kGroupColumns);
      const Block block = {p.x.row(t), tokens};
      for (std::size_t piece = 0; piece < kPieces; ++piece) {
        add_block(tile + sub, kRowTile * piece, lines + piece * 64 * 128, block,
                  sub * Tile::kColumns, count,
                  reinterpret_cast<BlockSums&>(sums[(piece * p.tokens + t) * 2]));
      }
    }
  }
  for (std::size_t piece = 0; piece < kPieces; ++piece) {
    for (std::size_t t = 0; t < p.tokens; ++t) {
      for (std::size_t slice = 0; slice < 2; ++slice) {
        put_slice(p, t, index * Tile::kRows + kRowTile * piece + 16 * slice,
                  sums[(piece * p.tokens + t) * 2 + slice]);
      }
    }
  }
}

template <template <std::size_t> typename Tile>
inline void amx_tiles(const PackedProduct& p, std::size_t begin, std::size_t end) {
  std::size_t configured = 0;
  for (std::size_t index = begin; index < end; ++index) {
    if (p.matrix.tile_rows == kRowTile) {
      amx_tile<Tile<kRowTile>>(p, index, configured);
    } else {
      amx_tile<Tile<kColumnTile>>(p, index, configured);
    }
  }
  _tile_release();
}

void packed_tiles_amx(const PackedProduct& product, std::size_t begin, std::size_t end) {
  if (product.tokens < kFewest) return packed_tiles(product, begin, end);
  switch (product.matrix.type) {
    case DataType::Q8_0:
      return amx_tiles<TileQ8_0>(product, begin, end);
    case DataType::Q4_0:
      return amx_tiles<TileQ4_0>(product, begin, end);
    case DataType::Q4_K:
      return amx_tiles<TileQ4_K>(product, begin, end);
    case DataType::Q5_K:
      return amx_tiles<TileQ5_K>(product, begin, end);
    case DataType::Q6_K:
      return amx_tiles<TileQ6_K>(product, begin, end);
    default:
      return packed_tiles(product, begin, end);
  }
}

constexpr Kernels table_amx() {
  Kernels kernels = table("avx512 with amx");
  kernels.packed_tiles = packed_tiles_amx;
  return kernels;
}
