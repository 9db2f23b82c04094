#include "backend/gpu/persistent/token_weights.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "backend/gpu/persistent/row_tiles.h"
#include "backend/gpu/transposed_value.h"
#include "base/mapped_file.h"
#include "base/parallel.h"
#include "model/quant/blocks.h"

namespace gander::gpu {
namespace {

using Form = Placed::Form;

// Beyond this a piece is uploaded: memory is small next to a model's, copies are long.
constexpr std::uint64_t kPieceBytes = std::uint64_t{32} << 20;

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

// Rows, or hidden units, of a matrix that are converted together by one thread.
struct Cut {
  std::uint32_t count = 0;  // of rows or units in all
  std::uint32_t step = 0;   // in a task
};

Cut cut(const Placed& placed) {
  if (placed.form == Form::ByUnit) return {placed.matrix.columns, 256};
  return {placed.matrix.rows, 64};
}

// Rows with the padding of the last tiles.
std::uint64_t round_to_tiles(const Placed& placed, std::uint32_t rows) {
  if (placed.form != Form::Tiles) return rows;
  return (std::uint64_t{rows} + kTileRows - 1) / kTileRows * kTileRows;
}

void convert(const Placed& placed, std::uint32_t begin, std::uint32_t end,
             std::span<std::byte> out) {
  const Matrix& matrix = placed.matrix;
  switch (placed.form) {
    case Form::ByUnit:
      transpose_value(matrix, begin, end, out);
      return;
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

class Upload {
 public:
  Upload(const View& buffer, Device& device, const Progress& progress)
      : buffer_(buffer), device_(device), progress_(progress) {}

  void add(const Placed& placed) {
    if (placed.bytes == 0) return;
    if (placed.form == Form::Vectors) {
      std::uint64_t offset = placed.offset;
      for (const std::vector<float>* vector : placed.vectors) {
        const auto bytes = std::as_bytes(std::span(*vector));
        device_.write(buffer_.part(offset, bytes.size()), bytes);
        offset += bytes.size();
      }
    } else if (placed.form == Form::ByUnit) {
      add_whole(placed);
    } else {
      add_rows(placed);
    }
    done_ += placed.bytes;
    if (progress_) progress_(std::min(done_, buffer_.size), buffer_.size);
  }

 private:
  void add_whole(const Placed& placed) {
    memory_.resize(placed.bytes);
    const Cut parts = cut(placed);
    parallel_for(threads_, (parts.count + parts.step - 1) / parts.step, [&](std::size_t i) {
      const auto begin = static_cast<std::uint32_t>(i) * parts.step;
      convert(placed, begin, std::min(begin + parts.step, parts.count), memory_);
    });
    device_.write(buffer_.part(placed.offset, placed.bytes), memory_);
    MappedFile::release({placed.matrix.data, placed.matrix.size()});
  }

  void add_rows(const Placed& placed) {
    const Cut parts = cut(placed);
    const std::uint64_t row = placed.bytes / round_to_tiles(placed, parts.count);
    const auto rows = static_cast<std::uint32_t>(
        std::max<std::uint64_t>(kPieceBytes / row / parts.step, 1) * parts.step);
    for (std::uint32_t first = 0; first < parts.count; first += rows) {
      const std::uint32_t end = std::min(first + rows, parts.count);
      memory_.resize(round_to_tiles(placed, end - first) * row);
      parallel_for(threads_, (end - first + parts.step - 1) / parts.step, [&](std::size_t i) {
        const std::uint32_t begin = first + static_cast<std::uint32_t>(i) * parts.step;
        const std::uint32_t last = std::min(begin + parts.step, end);
        convert(placed, begin, last,
                std::span(memory_).subspan((begin - first) * row,
                                           round_to_tiles(placed, last - begin) * row));
      });
      device_.write(buffer_.part(placed.offset + first * row, memory_.size()), memory_);
      MappedFile::release({placed.matrix.row(first), (end - first) * placed.matrix.row_size()});
    }
  }

  const View& buffer_;
  Device& device_;
  const Progress& progress_;
  unsigned threads_ = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::byte> memory_;
  std::uint64_t done_ = 0;
};

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
  Upload upload(buffer, device, progress);
  upload.add(placed.emb);
  upload.add(placed.ln0);
  for (const PlacedLayer& layer : placed.layers) {
    for (const Placed* part :
         {&layer.ln1, &layer.mix, &layer.vectors, &layer.ln2, &layer.ffn_mix, &layer.receptance,
          &layer.w1, &layer.key, &layer.value, &layer.a1, &layer.v1, &layer.g1, &layer.w2,
          &layer.a2, &layer.v2, &layer.g2, &layer.output, &layer.ffn_key, &layer.ffn_value}) {
      upload.add(*part);
    }
  }
  upload.add(placed.ln_out);
  upload.add(placed.head);
}

}  // namespace gander::gpu
