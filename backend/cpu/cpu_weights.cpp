#include "backend/cpu/cpu_weights.h"

#include <algorithm>
#include <new>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "base/mapped_file.h"

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
  struct Job {
    const Matrix* stored;
    PackedMatrix* packed;
    std::size_t end;  // the number after its last tile
  };
  std::vector<Job> jobs;
  std::size_t size = 0;

  void add(const Matrix& stored, PackedMatrix& packed, std::size_t tile_rows = kRowTile) {
    if (stored.rows == 0) return;
    packed = describe_packed(stored, tile_rows);
    size += packed.size();
    jobs.push_back({&stored, &packed, tiles() + packed.tiles});
  }

  std::size_t tiles() const { return jobs.empty() ? 0 : jobs.back().end; }

  void pack(std::size_t number) const {
    const Job& job = *std::ranges::upper_bound(jobs, number, {}, &Job::end);
    pack_tile(*job.stored, *job.packed, number - (job.end - job.packed->tiles));
  }
};

}  // namespace

CpuWeights prepare_weights(std::shared_ptr<const Weights> source, ThreadPool& pool) {
  CpuWeights weights;
  weights.layers.resize(source->layers.size());
  Packing packing;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const TimeMixWeights& att = source->layers[i].att;
    const ChannelMixWeights& ffn = source->layers[i].ffn;
    CpuLayer& layer = weights.layers[i];
    packing.add(att.receptance, layer.receptance);
    packing.add(att.key, layer.key);
    packing.add(att.value, layer.value);
    packing.add(att.output, layer.output);
    packing.add(att.w1, layer.w1);
    packing.add(att.w2, layer.w2);
    packing.add(att.a1, layer.a1);
    packing.add(att.a2, layer.a2);
    packing.add(att.v1, layer.v1);
    packing.add(att.v2, layer.v2);
    packing.add(att.g1, layer.g1);
    packing.add(att.g2, layer.g2);
    packing.add(ffn.key, layer.ffn_key);
    packing.add(ffn.value, layer.ffn_value, kColumnTile);
  }
  packing.add(source->head, weights.head);

  weights.memory = allocate(packing.size);
  std::byte* next = weights.memory.get();
  for (const Packing::Job& job : packing.jobs) {
    job.packed->data = next;
    next += job.packed->size();
    weights.any_quantized |= is_quantized(job.packed->type);
  }
  pool.run([&packing, tiles = packing.tiles()](Worker& worker) {
    worker.share(tiles, [&packing](std::size_t number) { packing.pack(number); });
  });
  for (const Packing::Job& job : packing.jobs) {
    MappedFile::release({job.stored->data, job.stored->size()});
  }
  weights.source = std::move(source);
  return weights;
}

}  // namespace gander
