#include "backend/gpu/persistent/token_weights.h"

#include <cstring>

#include "backend/gpu/persistent/row_tiles.h"
#include "backend/gpu/transposed_value.h"
#include "backend/gpu/upload.h"
#include "model/quant/blocks.h"

namespace gander::gpu {
namespace {

using Form = Placed::Form;

std::uint64_t bytes_of(const Placed& placed) {
  const Matrix& matrix = placed.matrix;
  const std::uint64_t elements = std::uint64_t{matrix.rows} * matrix.columns;
  switch (placed.form) {
    case Form::Tiles:
      return row_tiles_bytes(matrix);
    case Form::ByUnit:
      return transposed_value_bytes(matrix.type, matrix.rows, matrix.columns);
    case Form::Floats:
      return elements * sizeof(float);
    case Form::Vectors: {
      std::uint64_t count = 0;
      for (const std::vector<float>* vector : placed.vectors) count += vector->size();
      return count * sizeof(float);
    }
    default:
      return matrix.size();
  }
}

// Puts things one after the other.
class Places {
 public:
  void matrix(Placed& placed, const Matrix& matrix, Form form) {
    placed.form = form;
    placed.matrix = matrix;
    add(placed);
  }
  // Rows that the stream multiplies: floats as they are.
  void rows(Placed& placed, const Matrix& matrix) {
    this->matrix(placed, matrix, tile_bytes(matrix.type) > 0 ? Form::Tiles : Form::File);
  }
  void rank_matrix(Placed& placed, const Matrix& matrix) {
    const bool floats = info(matrix.type).block_size > 1;
    this->matrix(placed, matrix, floats ? Form::Floats : Form::File);
  }
  void vectors(Placed& placed, std::vector<const std::vector<float>*> vectors) {
    placed.form = Form::Vectors;
    placed.vectors = std::move(vectors);
    add(placed);
  }
  void norm(Placed& placed, const LayerNormWeights& norm) {
    vectors(placed, {&norm.weight, &norm.bias});
  }
  std::uint64_t end() const { return end_; }

 private:
  void add(Placed& placed) {
    placed.offset = end_;
    placed.bytes = bytes_of(placed);
    end_ += (placed.bytes + 255) / 256 * 256;
  }

  std::uint64_t end_ = 0;
};

PlacedLayer place(const gander::LayerWeights& layer, Places& places) {
  const TimeMixWeights& att = layer.att;
  // Layer 0 has no v0; what lies in its place is not read.
  const std::vector<float>& v0 = att.v0.empty() ? att.a0 : att.v0;
  PlacedLayer placed;
  places.norm(placed.ln1, layer.ln1);
  places.vectors(placed.mix, {&att.x_r, &att.x_w, &att.x_k, &att.x_v, &att.x_a, &att.x_g});
  places.vectors(placed.vectors, {&att.w0, &att.a0, &v0, &att.k_k, &att.k_a, &att.r_k,
                                  &att.ln_x.weight, &att.ln_x.bias});
  places.norm(placed.ln2, layer.ln2);
  places.vectors(placed.ffn_mix, {&layer.ffn.x_k});
  places.rows(placed.receptance, att.receptance);
  places.rows(placed.w1, att.w1);
  places.rows(placed.key, att.key);
  places.rows(placed.value, att.value);
  places.rows(placed.a1, att.a1);
  places.rows(placed.v1, att.v1);
  places.rows(placed.g1, att.g1);
  places.rank_matrix(placed.w2, att.w2);
  places.rank_matrix(placed.a2, att.a2);
  places.rank_matrix(placed.v2, att.v2);
  places.rank_matrix(placed.g2, att.g2);
  places.rows(placed.output, att.output);
  places.rows(placed.ffn_key, layer.ffn.key);
  places.matrix(placed.ffn_value, layer.ffn.value, Form::ByUnit);
  return placed;
}

void convert(const Placed& placed, std::uint32_t begin, std::uint32_t end,
             std::span<std::byte> out) {
  const Matrix& matrix = placed.matrix;
  switch (placed.form) {
    case Form::Tiles:
      to_row_tiles(matrix, begin, end, out);
      return;
    case Form::Floats: {
      std::vector<float> row(matrix.columns);
      for (std::uint32_t i = begin; i < end; ++i) {
        dequantize(matrix.type, matrix.row(i), row);
        std::memcpy(out.data() + std::size_t{i - begin} * row.size() * sizeof(float), row.data(),
                    row.size() * sizeof(float));
      }
      return;
    }
    default:
      std::memcpy(out.data(), matrix.row(begin), (end - begin) * matrix.row_size());
  }
}

void bring(const Placed& placed, const View& buffer, Upload& upload) {
  if (placed.bytes == 0) return;
  const View view = buffer.part(placed.offset, placed.bytes);
  switch (placed.form) {
    case Form::Vectors: {
      std::uint64_t begin = 0;
      for (const std::vector<float>* vector : placed.vectors) {
        const auto bytes = std::as_bytes(std::span(*vector));
        upload.copy(view.part(begin, bytes.size()), bytes);
        begin += bytes.size();
      }
      return;
    }
    case Form::ByUnit:
      upload.transpose(view, placed.matrix);
      return;
    default:
      upload.rows(view, placed.matrix, placed.form == Form::Tiles ? kTileRows : 1,
                  [&](std::uint32_t begin, std::uint32_t end, std::span<std::byte> out) {
                    convert(placed, begin, end, out);
                  });
  }
}

}  // namespace

TokenWeights plan_token_weights(const Weights& weights) {
  TokenWeights placed;
  Places places;
  places.matrix(placed.emb, weights.emb, Form::File);
  places.norm(placed.ln0, weights.ln0);
  for (const gander::LayerWeights& layer : weights.layers) {
    placed.layers.push_back(place(layer, places));
  }
  places.norm(placed.ln_out, weights.ln_out);
  places.rows(placed.head, weights.head);
  placed.bytes = places.end();
  return placed;
}

void upload_token_weights(const TokenWeights& placed, const View& buffer, Device& device,
                          const Progress& progress) {
  Upload upload(device, placed.bytes, progress);
  const auto add = [&](const Placed& part) { bring(part, buffer, upload); };
  add(placed.emb);
  add(placed.ln0);
  for (const PlacedLayer& layer : placed.layers) {
    for (const Placed* part :
         {&layer.ln1, &layer.mix, &layer.vectors, &layer.ln2, &layer.ffn_mix, &layer.receptance,
          &layer.w1, &layer.key, &layer.value, &layer.a1, &layer.v1, &layer.g1, &layer.w2,
          &layer.a2, &layer.v2, &layer.g2, &layer.output, &layer.ffn_key, &layer.ffn_value}) {
      add(*part);
    }
  }
  add(placed.ln_out);
  add(placed.head);
  upload.finish();
}

}  // namespace gander::gpu
