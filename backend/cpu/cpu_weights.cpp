#include "backend/cpu/cpu_weights.h"

#include <utility>

namespace gander {

namespace {

// A matrix to be packed and where.
struct PackingJob {
  std::vector<CpuMatrix*> matrices;
  unsigned threads;
};

void pack_share(void* context, unsigned thread) {
  const PackingJob& job = *static_cast<const PackingJob*>(context);
  for (CpuMatrix* matrix : job.matrices) {
    const std::size_t tiles = matrix->packed.tiles;
    pack_tiles(matrix->stored, matrix->packed, tiles * thread / job.threads,
               tiles * (thread + 1) / job.threads);
  }
}

}  // namespace

CpuWeights prepare_weights(std::shared_ptr<const Weights> source, ThreadPool& pool) {
  CpuWeights weights;
  weights.layers.resize(source->layers.size());
  PackingJob job{{}, pool.size()};
  const auto add = [&](CpuMatrix& matrix, const Matrix& stored, bool packable = true) {
    matrix.stored = stored;
    if (!packable || stored.rows == 0 || !is_packable(stored.type)) return;
    matrix.packed = allocate_packed(stored);
    job.matrices.push_back(&matrix);
  };
  // A head quantises its own share of the output matrix's input, in groups of 32.
  const bool whole_groups = source->config.head_size % 32 == 0;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& from = source->layers[i];
    CpuLayer& to = weights.layers[i];
    add(to.receptance, from.att.receptance);
    add(to.key, from.att.key);
    add(to.value, from.att.value);
    add(to.output, from.att.output, whole_groups);
    add(to.w1, from.att.w1);
    add(to.a1, from.att.a1);
    add(to.v1, from.att.v1);
    add(to.g1, from.att.g1);
    add(to.ffn_key, from.ffn.key);
    add(to.ffn_value, from.ffn.value);
  }
  add(weights.head, source->head);
  weights.any_packed = !job.matrices.empty();
  pool.run(pack_share, &job);
  weights.source = std::move(source);
  return weights;
}

}  // namespace gander
