#include "backend/gpu/model_weights.h"

#include <algorithm>
#include <array>
#include <string>

#include "backend/gpu/buffer_pool.h"
#include "backend/gpu/transposed_value.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/memory.h"

namespace gander::gpu {

namespace {

using Bytes = std::span<const std::byte>;

// Kernels load vectors of this many bytes from matrices.
std::uint64_t alignment_of(DataType type) {
  switch (type) {
    case DataType::Q8_0:
    case DataType::Q4_0:
    case DataType::Q6_K:
      return 2;
    default:
      return 16;
  }
}

struct Pair {
  const Matrix* stored;
  MatrixView* placed;
};

// A layer's matrices, all but ffn.value.
template <typename Visit>
void for_each_plain_matrix(const gander::LayerWeights& stored, LayerWeights& placed, Visit visit) {
  const TimeMixWeights& att = stored.att;
  visit(att.receptance, placed.receptance);
  visit(att.key, placed.key);
  visit(att.value, placed.value);
  visit(att.output, placed.output);
  visit(att.w1, placed.w1);
  visit(att.w2, placed.w2);
  visit(att.a1, placed.a1);
  visit(att.a2, placed.a2);
  visit(att.v1, placed.v1);
  visit(att.v2, placed.v2);
  visit(att.g1, placed.g1);
  visit(att.g2, placed.g2);
  visit(stored.ffn.key, placed.ffn_key);
}

std::vector<Pair> plain_matrices(const Weights& stored, ModelWeights& placed) {
  placed.layers.resize(stored.layers.size());
  std::vector<Pair> pairs = {{&stored.emb, &placed.emb}};
  for (std::size_t i = 0; i < stored.layers.size(); ++i) {
    for_each_plain_matrix(stored.layers[i], placed.layers[i],
                          [&](const Matrix& matrix, MatrixView& view) {
                            if (matrix.rows > 0) pairs.push_back({&matrix, &view});
                          });
  }
  pairs.push_back({&stored.head, &placed.head});
  return pairs;
}

// A vector of the layer as floats that lie one after the other; an absent one (v0 in layer 0) is
// zeros.
struct Vectors {
  View* view;
  std::vector<const std::vector<float>*> parts;
};

Vectors norm(View& view, const LayerNormWeights& weights) {
  return {&view, {&weights.weight, &weights.bias}};
}

std::vector<Vectors> vectors_of(const gander::LayerWeights& stored, LayerWeights& placed) {
  const TimeMixWeights& a = stored.att;
  return {norm(placed.ln1, stored.ln1),
          {&placed.mix, {&a.x_r, &a.x_w, &a.x_k, &a.x_v, &a.x_a, &a.x_g}},
          {&placed.vectors,
           {&a.w0, &a.a0, &a.v0, &a.k_k, &a.k_a, &a.r_k, &a.ln_x.weight, &a.ln_x.bias}},
          norm(placed.ln2, stored.ln2),
          {&placed.ffn_mix, {&stored.ffn.x_k}}};
}

std::vector<Vectors> vectors_of(const Weights& stored, ModelWeights& placed) {
  std::vector<Vectors> all = {norm(placed.ln0, stored.ln0), norm(placed.ln_out, stored.ln_out)};
  for (std::size_t i = 0; i < stored.layers.size(); ++i) {
    const std::vector<Vectors> layer = vectors_of(stored.layers[i], placed.layers[i]);
    all.insert(all.end(), layer.begin(), layer.end());
  }
  return all;
}

std::uint64_t bytes_of(const Vectors& vectors, const Config& config) {
  return vectors.parts.size() * config.width * sizeof(float);
}

// The whole pages that hold the matrix, if the device can use it where it is.
Bytes pages_of(const Matrix& matrix, const DeviceInfo& info) {
  const auto address = reinterpret_cast<std::uintptr_t>(matrix.data);
  if (!info.wraps_memory || address % alignment_of(matrix.type) != 0) return {};
  const Bytes file = MappedFile::around(matrix.data);
  if (file.empty()) return {};
  const std::uint64_t page = info.page_bytes;
  const std::uint64_t before = address % page;
  const std::uint64_t size = (before + matrix.size() + page - 1) / page * page;
  if (matrix.data - before < file.data() || size > info.max_buffer_bytes) return {};
  return {matrix.data - before, size};
}

// Ranges that overlap or nearly touch become one, as far as a buffer may be long.
std::vector<Bytes> merge(std::vector<Bytes> ranges, const DeviceInfo& info) {
  std::ranges::sort(ranges, {}, [](Bytes range) { return range.data(); });
  std::vector<Bytes> merged;
  for (const Bytes range : ranges) {
    if (!merged.empty()) {
      const Bytes last = merged.back();
      const std::byte* const end = std::max(last.data() + last.size(), range.data() + range.size());
      const auto size = static_cast<std::uint64_t>(end - last.data());
      if (range.data() - (last.data() + last.size()) <=
              static_cast<std::ptrdiff_t>(4 * info.page_bytes) &&
          size <= info.max_buffer_bytes) {
        merged.back() = {last.data(), size};
        continue;
      }
    }
    merged.push_back(range);
  }
  return merged;
}

bool contains(Bytes range, const Matrix& matrix) {
  return matrix.data >= range.data() && matrix.data + matrix.size() <= range.data() + range.size();
}

void check_size(const Matrix& matrix, std::uint64_t bytes, const DeviceInfo& info) {
  if (info.max_buffer_bytes == 0 || bytes <= info.max_buffer_bytes) return;
  fail(
      "a matrix of {} by {} takes {}, and {} allows buffers of up to {}: take a smaller or more "
      "strongly quantised model",
      matrix.rows, matrix.columns, bytes_text(bytes), info.name, bytes_text(info.max_buffer_bytes));
}

MatrixView shape_of(const Matrix& matrix) {
  return {{}, matrix.type, matrix.rows, matrix.columns};
}

}  // namespace

WeightPlan plan_weights(const Weights& weights, const DeviceInfo& info) {
  WeightPlan plan;
  ModelWeights views;
  std::vector<Bytes> ranges;
  for (const Pair& pair : plain_matrices(weights, views)) {
    const Bytes pages = pages_of(*pair.stored, info);
    if (!pages.empty()) {
      ranges.push_back(pages);
    } else {
      check_size(*pair.stored, pair.stored->size(), info);
      plan.copied_bytes += pair.stored->size();
    }
  }
  plan.pages = merge(std::move(ranges), info);
  for (const Bytes pages : plan.pages) plan.wrapped_bytes += pages.size();
  for (const Vectors& vectors : vectors_of(weights, views)) {
    plan.copied_bytes += bytes_of(vectors, weights.config);
  }
  for (const gander::LayerWeights& layer : weights.layers) {
    const Matrix& value = layer.ffn.value;
    const std::uint64_t bytes = transposed_value_bytes(value.type, value.rows, value.columns);
    check_size(value, bytes, info);
    plan.value_bytes += bytes;
  }
  return plan;
}

ModelWeights place_weights(const Weights& weights, const WeightPlan& plan, Device& device) {
  ModelWeights placed;
  std::vector<std::uint32_t> buffers;
  buffers.reserve(plan.pages.size());
  for (const Bytes pages : plan.pages) buffers.push_back(device.wrap(pages, "weights in the file"));

  std::vector<Pair> copies;
  for (const Pair& pair : plain_matrices(weights, placed)) {
    *pair.placed = shape_of(*pair.stored);
    const auto found = std::ranges::find_if(
        plan.pages, [&](Bytes pages) { return contains(pages, *pair.stored); });
    if (found == plan.pages.end() || pages_of(*pair.stored, device.info()).empty()) {
      copies.push_back(pair);
      continue;
    }
    pair.placed->view = {buffers[static_cast<std::size_t>(found - plan.pages.begin())],
                         static_cast<std::uint64_t>(pair.stored->data - found->data()),
                         pair.stored->size()};
  }

  BufferPool vectors;
  for (const Vectors& part : vectors_of(weights, placed)) {
    vectors.add(*part.view, bytes_of(part, weights.config));
  }
  vectors.allocate(device, "vectors");

  // One buffer for each copied matrix and each transposed one: a whole model's may be longer than
  // a buffer can be.
  for (const Pair& pair : copies) {
    pair.placed->view = {device.allocate(pair.stored->size(), "copied matrix"), 0,
                         pair.stored->size()};
  }
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const Matrix& value = weights.layers[i].ffn.value;
    const std::uint64_t bytes = transposed_value_bytes(value.type, value.rows, value.columns);
    MatrixView& view = placed.layers[i].ffn_value;
    view = shape_of(value);
    view.view = {device.allocate(bytes, "ffn.value by hidden unit"), 0, bytes};
  }
  // Layer 0 has no value mix; what is bound in its place is not read.
  for (LayerWeights& layer : placed.layers) {
    if (layer.v1.rows == 0) layer.v1.view = layer.a1.view;
    if (layer.v2.rows == 0) layer.v2.view = layer.a2.view;
  }
  return placed;
}

void upload_weights(const Weights& weights, const ModelWeights& placed, Device& device,
                    const Progress& progress) {
  ModelWeights views = placed;  // visited together with the stored ones
  const WeightPlan plan = plan_weights(weights, device.info());
  Upload upload(device, plan.copied_bytes + plan.value_bytes, progress);
  for (const Vectors& vectors : vectors_of(weights, views)) {
    std::uint64_t offset = 0;
    const std::uint64_t bytes = weights.config.width * sizeof(float);
    for (const std::vector<float>* part : vectors.parts) {
      upload.copy(vectors.view->part(offset, bytes), std::as_bytes(std::span(*part)));
      offset += bytes;
    }
  }
  for (const Pair& pair : plain_matrices(weights, views)) {
    if (!pages_of(*pair.stored, device.info()).empty()) continue;
    upload.copy(pair.placed->view, {pair.stored->data, pair.stored->size()});
  }
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    upload.transpose(views.layers[i].ffn_value.view, weights.layers[i].ffn.value);
  }
  upload.finish();
}

}  // namespace gander::gpu
