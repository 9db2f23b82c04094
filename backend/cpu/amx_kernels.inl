// Products with Q4_K and Q5_K matrices for many tokens on AMX. Included after kernels.inl. (Types
// with less to scale per product gain nothing: the other kernels are as fast.)
//
// One instruction multiplies sixteen tokens by sixteen rows (a slice) over a group of columns; the
// lines of a row tile are in the order it wants. What is left is scaling the groups' sums, so those
// of several groups are stored first: their scales then stay in registers for all tokens. Integer
// sums are exact and floats are added in the order of packed_kernels.inl, so the bits are the same.

constexpr std::size_t kBlock = 16;  // tokens
constexpr std::size_t kGroups = 8;  // of 32 columns, whose sums are stored before they are scaled
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
inline void configure(std::size_t tokens) {
  TileConfig config;
  for (const int tile : {0, 1, 2, 3, 4}) {
    config.rows[tile] = static_cast<std::uint8_t>(tile < 3 ? tokens : 8);
    config.row_bytes[tile] = tile == 2 ? 32 : 64;
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

// products[group][token][slice] for the groups of 256 columns from `column` of x on; `lines` are
// their weights, [quad][half][64].
inline void multiply_groups(const std::uint8_t* lines, const Block& block, std::size_t column,
                            GroupSums& products) {
  finish_writes();
  for (std::size_t group = 0; group < kGroups; ++group) {
    const std::uint8_t* weights = lines + group * 8 * 128;
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(2, block.x.q + column + 32 * group, block.x.columns);
    _tile_loadd(3, weights, 128);
    _tile_loadd(4, weights + 64, 128);
    _tile_dpbsud(0, 2, 3);
    _tile_dpbsud(1, 2, 4);
    _tile_stored(0, &products[group][0][0], sizeof products[0][0]);
    _tile_stored(1, &products[group][0][1], sizeof products[0][0]);
  }
}

// Adds to y the product with rows `row` to row + 31 of a tile, whose first column is `column` of x.
template <typename Tile>
inline void add_block(const Tile& tile, std::size_t row, const std::uint8_t* lines,
                      const Block& block, std::size_t column, BlockSums& y) {
  GroupSums products;
  multiply_groups(lines, block, column, products);
  for (std::size_t slice = 0; slice < 2; ++slice) {
    Floats scale[kGroups];
    Floats minimum[kGroups];
    for (std::size_t group = 0; group < kGroups; ++group) {
      scale[group] = widen(tile.scale[group] + row + 16 * slice);
      minimum[group] = widen(tile.minimum[group] + row + 16 * slice);
    }
    const Floats d = widen_halves(tile.d + row + 16 * slice);
    const Floats dmin = widen_halves(tile.dmin + row + 16 * slice);
    const float* x_scale = block.x.scale + column / 32;
    const float* scaled_sum = block.x.scaled_sum + column / 32;
    for (std::size_t t = 0; t < block.tokens; ++t) {
      Floats sums = {};
      Floats minimums = {};
      for (std::size_t group = 0; group < kGroups; ++group) {
        const Floats scaled = scale[group] * x_scale[group];
        sums = fused(to_floats(products[group][t][slice]), scaled, sums);
        minimums = fused(minimum[group], fill(scaled_sum[group]), minimums);
      }
      y[t][slice] = fused(d, sums, y[t][slice]);
      y[t][slice] = fused(dmin * -1.0F, minimums, y[t][slice]);
      x_scale += block.x.columns / 32;
      scaled_sum += block.x.columns / 32;
    }
  }
}

// The lines of a tile in bytes, [quad][half][64]; those of a column tile in four pieces.
template <typename Tile>
inline void unpack_lines(const Tile& tile, std::uint8_t* lines) {
  if constexpr (Tile::kRows == kColumnTile) {
    unpack(tile, lines);
  } else {
    for (unsigned quad = 0; quad < 64; ++quad) {
      Bytes weights[2];
      load_line(tile, 0, quad, weights);
      std::memcpy(lines + 128 * quad, &weights[0], 64);
      std::memcpy(lines + 128 * quad + 64, &weights[1], 64);
    }
  }
}

// A row of tiles for all tokens. `configured` is the number of tokens that the tile registers are
// set up for.
template <typename Tile>
inline void amx_tile(const PackedProduct& p, std::size_t index, std::size_t& configured) {
  constexpr std::size_t kPieces = Tile::kRows / kRowTile;
  auto* sums = reinterpret_cast<Floats*>(p.scratch);  // [piece][token][2]
  auto* lines = reinterpret_cast<std::uint8_t*>(sums + kPieces * p.tokens * 2);
  for (std::size_t i = 0; i < kPieces * p.tokens * 2; ++i) sums[i] = {};
  const Tile* tile = reinterpret_cast<const Tile*>(p.matrix.tile(index));
  for (std::size_t sub = 0; sub < p.matrix.sub_tiles; ++sub) {
    unpack_lines(tile[sub], lines);
    prefetch_bytes(tile + sub + 1, sizeof(Tile));
    for (std::size_t t = 0; t < p.tokens; t += kBlock) {
      const std::size_t tokens = p.tokens - t < kBlock ? p.tokens - t : kBlock;
      if (configured != tokens) configure(configured = tokens);
      for (std::size_t piece = 0; piece < kPieces; ++piece) {
        add_block(tile[sub], kRowTile * piece, lines + piece * 64 * 128, {p.x.row(t), tokens},
                  256 * sub, reinterpret_cast<BlockSums&>(sums[(piece * p.tokens + t) * 2]));
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
  if (product.tokens >= kFewest && product.matrix.type == DataType::Q4_K) {
    amx_tiles<TileQ4_K>(product, begin, end);
  } else if (product.tokens >= kFewest && product.matrix.type == DataType::Q5_K) {
    amx_tiles<TileQ5_K>(product, begin, end);
  } else {
    packed_tiles(product, begin, end);
  }
}

constexpr Kernels table_amx() {
  Kernels kernels = table("avx512 with amx");
  kernels.packed_tiles = packed_tiles_amx;
  return kernels;
}
