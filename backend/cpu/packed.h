#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/weights.h"

// Matrices in the order in which the kernels read them.
//
// Floats keep their type. A tile is 32 rows, column after column, so that no sum goes across the
// lanes of a register; a column whose input is zero is skipped. The rest is about quantised types.
//
// A tile is some rows by 256 columns (for Q8_0 and Q4_0 eight sub-tiles of 32 columns). Its weights
// lie in lines of 64 bytes, sixteen lanes of four bytes. Lane i of a line multiplies by the same
// four bytes of activations as the other lanes, with one dot-product instruction, and adds up to
// output row i of the line. Four-bit weights fill the low nibbles with one half of the tile's rows
// and the high ones with the other; eight-bit weights have a line for each half.
//
//   kRowTile     32 rows, a half is 16. The four bytes of a lane are four neighbouring columns:
//                every byte of a line is a product that is wanted.
//   kColumnTile  128 rows, a half is 64. A line is a single column, byte k of lane i is row
//                16 k + i of the half, and three of the four bytes are multiplied by zero. That
//                costs four times the instructions, but a column whose activation is zero is
//                skipped with its line. The value matrix of channel mixing is stored so: most of
//                its inputs are zero after relu^2.
//
// Tiles follow each other row by row, so the rows of a thread are contiguous. Values are those of
// the file; sizes too, but for scales unpacked to bytes: 4.63 bits a weight for Q4_K against 4.5.
namespace gander {

inline constexpr std::size_t kRowTile = 32;
inline constexpr std::size_t kColumnTile = 128;

/// Lines of four-bit weights of a (sub-)tile.
constexpr std::size_t tile_lines(std::size_t rows, std::size_t columns) {
  return rows * columns / 128;
}

template <std::size_t Rows>
struct TileQ8_0 {
  static constexpr std::size_t kRows = Rows, kColumns = 32;
  std::uint16_t d[Rows];
  std::uint8_t q[tile_lines(Rows, 32)][2][64];  // [line][half], stored as q + 128
};

template <std::size_t Rows>
struct TileQ4_0 {
  static constexpr std::size_t kRows = Rows, kColumns = 32;
  std::uint16_t d[Rows];
  std::uint8_t q[tile_lines(Rows, 32)][64];
};

template <std::size_t Rows>
struct TileQ4_K {
  static constexpr std::size_t kRows = Rows, kColumns = 256;
  std::uint16_t d[Rows], dmin[Rows];
  std::uint8_t scale[8][Rows], minimum[8][Rows];  // [group of 32 columns]
  std::uint8_t q[tile_lines(Rows, 256)][64];
};

template <std::size_t Rows>
struct TileQ5_K {
  static constexpr std::size_t kRows = Rows, kColumns = 256;
  std::uint16_t d[Rows], dmin[Rows];
  std::uint8_t scale[8][Rows], minimum[8][Rows];
  std::uint8_t q[tile_lines(Rows, 256)][64];
  /// Fifth bits: line i serves lines 4i to 4i + 3 of q, bit 2 (line % 4) + half of each byte.
  std::uint8_t high[tile_lines(Rows, 256) / 4][64];
};

template <std::size_t Rows>
struct TileQ6_K {
  static constexpr std::size_t kRows = Rows, kColumns = 256;
  std::uint16_t d[Rows];
  std::int8_t scale[16][Rows];  // [group of 16 columns]
  std::uint8_t q[tile_lines(Rows, 256)][64];
  /// Upper bit pairs: line i serves lines 2i and 2i + 1, pair 2 (line % 2) + half of each byte.
  std::uint8_t high[tile_lines(Rows, 256) / 2][64];
};

/// Whether the kernels read activations in 8 bits for matrices of this type.
bool is_quantized(DataType type);

/// A packed matrix; the memory belongs to whoever set `data`.
struct PackedMatrix {
  DataType type = DataType::F32;
  std::size_t rows = 0, columns = 0;
  std::size_t tile_rows = 0;      ///< kRowTile or kColumnTile
  std::size_t tiles = 0;          ///< rows / tile_rows, rounded up; rows that fill up are zero
  std::size_t sub_tiles = 0;      ///< of a tile, along its columns
  std::size_t sub_tile_size = 0;  ///< bytes, a multiple of 64
  std::byte* data = nullptr;      ///< 64-byte aligned

  std::size_t tile_size() const { return sub_tiles * sub_tile_size; }
  std::size_t size() const { return tiles * tile_size(); }
  std::byte* tile(std::size_t index) const { return data + index * tile_size(); }
};

/// Everything but the memory of a packed matrix. Floats have row tiles only.
PackedMatrix describe_packed(const Matrix& matrix, std::size_t tile_rows = kRowTile);
/// Packs one tile: threads may share the work.
void pack_tile(const Matrix& matrix, const PackedMatrix& packed, std::size_t index);

}  // namespace gander
