#include "backend/cpu/cpu_weights.h"

#include <algorithm>
#include <new>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace gander {

namespace {

constexpr std::align_val_t kHugePage{2 << 20};

// Large pages where the system has them: with small ones, processors look ahead no further than to
// the end of 4 KiB.
std::shared_ptr<std::byte> allocate(std::size_t size) {
  std::shared_ptr<std::byte> memory(static_cast<std::byte*>(::operator new(size, kHugePage)),
                                    [](std::byte* bytes) { ::operator delete(bytes, kHugePage); });
#ifdef __linux__
  madvise(memory.get(), size, MADV_HUGEPAGE);
#endif
  return memory;
}

// What is to be packed; tiles are numbered through all matrices.
struct Packing {
  std::vector<CpuMatrix*> matrices;
  std::vector<std::size_t> ends;  // the number after each matrix's last tile

  void pack(std::size_t number) const {
    const auto index =
        static_cast<std::size_t>(std::ranges::upper_bound(ends, number) - ends.begin());
    const CpuMatrix& matrix = *matrices[index];
    pack_tile(matrix.stored, matrix.packed, number - (ends[index] - matrix.packed.tiles));
  }
};

}  // namespace

CpuWeights prepare_weights(std::shared_ptr<const Weights> source, ThreadPool& pool) {
  CpuWeights weights;
  weights.layers.resize(source->layers.size());
  Packing packing;
  std::size_t size = 0;
  std::size_t tiles = 0;
  const auto add = [&](CpuMatrix& matrix, const Matrix& stored, std::size_t tile_rows = kRowTile) {
    matrix.stored = stored;
    if (tile_rows == 0 || stored.rows == 0 || !is_packable(stored.type)) return;
    matrix.packed = describe_packed(stored, tile_rows);
    size += matrix.packed.size();
    packing.matrices.push_back(&matrix);
    packing.ends.push_back(tiles += matrix.packed.tiles);
  };
  // A head quantises its own share of the output matrix's input, in groups of 32.
  const bool whole_groups = source->config.head_size % 32 == 0;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& from = source->layers[i];
    CpuLayer& to = weights.layers[i];
    add(to.receptance, from.att.receptance);
    add(to.key, from.att.key);
    add(to.value, from.att.value);
    add(to.output, from.att.output, whole_groups ? kRowTile : 0);
    add(to.w1, from.att.w1);
    add(to.a1, from.att.a1);
    add(to.v1, from.att.v1);
    add(to.g1, from.att.g1);
    add(to.ffn_key, from.ffn.key);
    add(to.ffn_value, from.ffn.value, kColumnTile);
  }
  add(weights.head, source->head);
  weights.any_packed = tiles > 0;
  weights.memory = allocate(size);
  std::byte* next = weights.memory.get();
  for (CpuMatrix* matrix : packing.matrices) {
    matrix->packed.data = next;
    next += matrix->packed.size();
  }
  pool.run([&packing, tiles](Worker& worker) {
    worker.share(tiles, [&packing](std::size_t number) { packing.pack(number); });
  });
  weights.source = std::move(source);
  return weights;
}

}  // namespace gander
