#include "backend/gpu/primitives.h"

#include <utility>

#include "backend/gpu/layer_buffers.h"

namespace gander::gpu {

namespace {

constexpr std::uint32_t kGroupThreads = 256;

// The length below which a vector is not scaled to length 1.
constexpr float kLengthEpsilon = 1e-12F;

std::uint32_t number(std::uint64_t value) {
  return static_cast<std::uint32_t>(value);
}

std::uint32_t count(const View& view) {
  return number(view.size / sizeof(float));
}

}  // namespace

template <typename Parameters>
void Primitives::record(std::string_view kernel, std::uint32_t weight_types,
                        std::vector<Binding> bindings, const Parameters& parameters, Item item,
                        std::uint32_t items, std::uint32_t scratch) const {
  recorder_.record(program_, kernel, layer_, weight_types, std::move(bindings), parameters,
                   {.threads = kGroupThreads, .group_memory = number(scratch * sizeof(float))});
  // The grid follows from the threads that the pipeline allows.
  Dispatch& dispatch = program_.dispatches.back();
  std::uint32_t of_group = 1;
  if (item == Item::Thread) of_group = dispatch.threads;
  if (item == Item::SimdGroup) of_group = dispatch.threads / 32;
  dispatch.groups = {(items + of_group - 1) / of_group, 1};
}

void Primitives::blit(const View& x, const View& y) const {
  constexpr std::uint64_t kQuad = 4 * sizeof(float);
  if ((x.offset | y.offset | y.size) % kQuad == 0) {
    const std::uint32_t quads = number(y.size / kQuad);
    record("blit_quads", 0, {in(x), out(y)}, CountParameters{quads}, Item::Thread, quads);
  } else {
    record("blit", 0, {in(x), out(y)}, CountParameters{count(y)}, Item::Thread, count(y));
  }
}

void Primitives::add(const View& x, const View& y) const {
  record("add", 0, {in(x), in_out(y)}, BroadcastParameters{count(y), count(x)}, Item::Thread,
         count(y));
}

void Primitives::mul(const View& x, const View& y) const {
  record("mul", 0, {in(x), in_out(y)}, BroadcastParameters{count(y), count(x)}, Item::Thread,
         count(y));
}

void Primitives::affine(const View& y, float scale, float bias) const {
  record("affine", 0, {in_out(y)}, AffineParameters{count(y), scale, bias}, Item::Thread, count(y));
}

void Primitives::lerp(const View& factor, const View& x, const View& y) const {
  record("lerp", 0, {in(factor), in(x), in_out(y)}, CountParameters{count(y)}, Item::Thread,
         count(y));
}

void Primitives::activate(const View& y, std::uint32_t activation) const {
  record("activate", 0, {in_out(y)}, ActivateParameters{count(y), activation}, Item::Thread,
         count(y));
}

void Primitives::add_activate(const View& bias, const View& y, std::uint32_t activation) const {
  record("add_activate", 0, {in(bias), in_out(y)},
         AddActivateParameters{count(y), count(bias), activation}, Item::Thread, count(y));
}

void Primitives::layer_norm(const View& y) const {
  record("layer_norm", 0, {in_out(y)}, GroupsParameters{1, count(y), config().norm_epsilon},
         Item::Group, 1);
}

void Primitives::group_norm(const View& y) const {
  const float epsilon = config().norm_epsilon * static_cast<float>(config().head_size);
  record("group_norm", 0, {in_out(y)},
         GroupsParameters{config().heads, config().head_size, epsilon}, Item::SimdGroup,
         config().heads);
}

void Primitives::l2_norm(const View& y) const {
  record("l2_norm", 0, {in_out(y)},
         GroupsParameters{config().heads, config().head_size, kLengthEpsilon}, Item::SimdGroup,
         config().heads);
}

void Primitives::token_shift(const View& x, const View& shift, const View& mix,
                             const View& mixed) const {
  record("token_shift", 0, {in(x), in(shift), in(mix), out(mixed)}, ChunkParameters{1, count(x)},
         Item::Thread, count(x));
}

void Primitives::channel_mix(const View& v, const View& x, const View& shift) const {
  record("channel_mix_v7", 0, {in(v), in_out(x), out(shift)}, ChunkParameters{1, count(x)},
         Item::Thread, count(x));
}

void Primitives::control_k(const View& k_a, const View& a, const View& k) const {
  record("control_k_v7", 0, {in(k_a), in(a), in_out(k)}, BroadcastParameters{count(k), count(k_a)},
         Item::Thread, count(k));
}

void Primitives::pack_kvakk(const View& k, const View& v, const View& a, const View& kk,
                            const View& packed) const {
  record("pack_kvakk", 0, {in(k), in(v), in(a), in(kk), out(packed)}, ChunkParameters{1, count(k)},
         Item::Thread, count(k));
}

void Primitives::time_mix(const View& r, const View& w, const View& packed, const View& state,
                          const View& y) const {
  record("time_mix_v7", 0, {in(r), in(w), in(packed), in_out(state), out(y)},
         HeadsParameters{1, config().heads, config().head_size}, Item::SimdGroup, count(y));
}

void Primitives::time_first(const View& r_k, const View& r, const View& packed,
                            const View& y) const {
  record("time_first_v7", 0, {in(r_k), in(r), in(packed), in_out(y)},
         HeadsParameters{1, config().heads, config().head_size}, Item::SimdGroup, config().heads);
}

void Primitives::lookup(const View& token, const MatrixView& matrix, const View& x) const {
  const Binding row = {matrix.view, row_bytes(matrix.type, matrix.columns), 0};
  record("lookup", type_bit(matrix.type), {in(token), row, out(x)},
         LookupParameters{matrix.columns, type_number(matrix)}, Item::Thread, matrix.columns);
}

void Primitives::matmul(const MatrixView& matrix, const View& x, const View& y,
                        std::uint32_t activation) const {
  record("matmul_vec", type_bit(matrix.type), {in(matrix.view), in(x), out(y)},
         MatmulParameters{matrix.rows, matrix.columns, 1, type_number(matrix), activation},
         Item::SimdGroup, (matrix.rows + 3) / 4, (matrix.columns + 3) / 4 * 4);
}

void Primitives::matmul_sparse(const MatrixView& matrix, const View& x, const View& y) const {
  record("matmul_sparse", type_bit(matrix.type), {in(matrix.view), in(x), out(y)},
         SparseMatmulParameters{1, type_number(matrix)}, Item::Group,
         (matrix.rows + kValueTile - 1) / kValueTile, GANDER_FFN_VALUE_SCRATCH(kGroupThreads));
}

}  // namespace gander::gpu
