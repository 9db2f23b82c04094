// Products of tiles of halves by NVIDIA's tensor cores, for kernels/batch; the CPU does the same
// for the emulation. Part of msl_extensions.h.
//
// A tile is 128 bytes a row, 64 halves: rows of weights or tokens with the columns of a step in a
// row, or hidden units with channels in a row. Chunks of 16 bytes change places within a row, so
// that reading a column of chunks meets all banks: chunk c of row r lies at place c ^ (r % 8).
// Tiles begin at a multiple of 1024 bytes.
//
// Four SIMD groups multiply together: sums[64][Tokens] += weights[64][64] tokens[Tokens][64]ᵀ. Of
// the sums, thread `index` of the 128 has number 4 j + 2 h + i at row 16 (index / 32) + index % 32
// / 4 + 8 h, token 8 j + 2 (index % 4) + i.
#pragma once

namespace metal {

// The place of a chunk in a tile, in bytes.
MSL_FUNCTION uint chunk_place(uint row, uint chunk) {
  return 128 * row + 16 * (chunk ^ (row % 8));
}

#if MSL_CPU

inline uchar* align_tiles(uchar* memory) {
  return memory;
}
inline uint pack_halves(float low, float high) {
  return uint(half(low).bits_) | uint(half(high).bits_) << 16;
}
// The levels in the lower bits of both 16 bits of a word, below 1024, as two halves.
inline uint levels_of(uint spread) {
  return pack_halves(float(spread & 0xffff), float(spread >> 16));
}
// Bytes `first` and first + 1.
inline uint levels_of_bytes(uint word, uint first) {
  return pack_halves(float(word >> 8 * first & 255), float(word >> (8 * first + 8) & 255));
}
// The nibbles of byte i, in the lower bits of both 16 bits of a word.
inline uint spread_nibbles(uint word, uint i) {
  return (word >> 8 * i & 15) | (word >> (8 * i + 4) & 15) << 16;
}
// a b + c of pairs of halves.
inline uint fma_halves(uint a, uint b, uint c) {
  const auto at = [](uint pair, uint place) { return float(half::from_bits_(pair >> place)); };
  return pack_halves(fma(at(a, 0), at(b, 0), at(c, 0)), fma(at(a, 16), at(b, 16), at(c, 16)));
}

// A chunk on its way from device memory.
inline void begin_chunk(uchar* to, const void* from) {
  msl::begin_copy(to, from);
}
inline void commit_chunks() {
  msl::commit_copies();
}
// All but the last `Groups` commits of this thread have arrived.
template <uint Groups>
void wait_for_chunks() {
  msl::wait_for_copies_but(Groups);
}

// What this thread wrote to tiles may be multiplied after the next barrier.
inline void publish_tiles() {}

// Begins a product; the sums may be read, and the tiles written, after end_products. `ByUnit`: the
// weights are 64 units of 64 channels.
template <uint Tokens, bool ByUnit>
void multiply_tiles(float (&sums)[Tokens / 2], const uchar* weights, const uchar* tokens,
                    uint index) {
  const auto at = [](const uchar* tile, uint row, uint column) {
    return float(*(const half*)(tile + chunk_place(row, column / 8) + 2 * (column % 8)));
  };
  for (uint number = 0; number < Tokens / 2; ++number) {
    const uint row = index / 32 * 16 + index % 32 / 4 + 8 * (number / 2 % 2);
    const uint token = 8 * (number / 4) + 2 * (index % 4) + number % 2;
    for (uint k = 0; k < 64; ++k) {
      sums[number] += (ByUnit ? at(weights, k, row) : at(weights, row, k)) * at(tokens, token, k);
    }
  }
}
// Returns when all but the last `Running` products of this thread's are done.
template <uint Running, uint Count>
void end_products(float (&)[Count]) {}

#else

MSL_FUNCTION uchar* align_tiles(uchar* memory) {
  const uint address = shared_address(memory);
  return memory + ((address + 1023) / 1024 * 1024 - address);
}
MSL_FUNCTION uint pack_halves(float low, float high) {
  uint pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// The bits of 1024 + q are those of 1024 and q.
MSL_FUNCTION uint less_1024(uint pair) {
  uint levels;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(levels) : "r"(pair), "r"(0x64006400));
  return levels;
}
MSL_FUNCTION uint levels_of(uint spread) {
  return less_1024(spread | 0x64006400);
}
MSL_FUNCTION uint levels_of_bytes(uint word, uint first) {
  return less_1024(__nvvm_prmt(word, 0x64646464, first == 0 ? 0x4140 : 0x4342));
}
MSL_FUNCTION uint spread_nibbles(uint word, uint i) {
  return __nvvm_prmt(word, word >> 4, 0x0400 + 0x1111 * i) & 0x000f000f;
}
MSL_FUNCTION uint fma_halves(uint a, uint b, uint c) {
  uint result;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

MSL_FUNCTION void begin_chunk(uchar* to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared_address(to)),
               "l"((const MSL_GLOBAL void*)from)
               : "memory");
}
MSL_FUNCTION void commit_chunks() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <uint Groups>
MSL_FUNCTION void wait_for_chunks() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
}

#if MSL_WGMMA  // sm_90a: the four warps at once, from thread-group memory

MSL_FUNCTION void publish_tiles() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Of a tile: its address, 1024 bytes from eight rows to the next, places changed within 128 bytes.
MSL_FUNCTION ulong tile_descriptor(const uchar* tile) {
  return (ulong(shared_address(tile)) >> 4 & 0x3fff) | 1ul << 16 | 64ul << 32 | 1ul << 62;
}

#include "msl_wgmma.h"

template <uint Tokens, bool ByUnit>
MSL_FUNCTION void multiply_tiles(float (&sums)[Tokens / 2], const uchar* weights,
                                 const uchar* tokens, uint) {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  Wgmma<Tokens, ByUnit>::multiply(sums, tile_descriptor(weights), tile_descriptor(tokens));
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <uint Running, uint Count>
MSL_FUNCTION void end_products(float (&sums)[Count]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Running) : "memory");
  if (Running > 0) return;
#pragma unroll
  for (uint i = 0; i < Count; ++i) asm volatile("" : "+f"(sums[i]));  // not read before
}

#else  // mma.sync, each warp its 16 rows

MSL_FUNCTION void publish_tiles() {}

MSL_FUNCTION void load_matrices(uint (&words)[4], const uchar* at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(at))
               : "memory");
}
MSL_FUNCTION void load_transposed_matrices(uint (&words)[4], const uchar* at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(at))
               : "memory");
}
MSL_FUNCTION void multiply_fragment(float* d, const uint (&a)[4], uint b0, uint b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <uint Tokens, bool ByUnit>
MSL_FUNCTION void multiply_tiles(float (&sums)[Tokens / 2], const uchar* weights,
                                 const uchar* tokens, uint index) {
  const uint lane = index % 32, first = index / 32 * 16;
#pragma unroll
  for (uint k = 0; k < 4; ++k) {
    uint a[4];
    if (ByUnit) {  // matrices: rows 0, rows 8 of the first eight units, then of the second
      load_transposed_matrices(
          a, weights + chunk_place(16 * k + lane % 8 + lane / 16 * 8, first / 8 + lane / 8 % 2));
    } else {
      load_matrices(a, weights + chunk_place(first + lane % 16, 2 * k + lane / 16));
    }
#pragma unroll
    for (uint j = 0; j < Tokens / 8; j += 2) {  // tokens 8 j: columns 0, 8; then the next eight
      uint b[4];
      const uint next = Tokens > 8 ? lane / 16 * 8 : 0;
      load_matrices(b, tokens + chunk_place(8 * j + next + lane % 8, 2 * k + lane / 8 % 2));
      multiply_fragment(sums + 4 * j, a, b[0], b[1]);
      if (Tokens > 8) multiply_fragment(sums + 4 * j + 4, a, b[2], b[3]);
    }
  }
}
template <uint Running, uint Count>
MSL_FUNCTION void end_products(float (&)[Count]) {}

#endif
#endif

}  // namespace metal
