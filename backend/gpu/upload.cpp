#include "backend/gpu/upload.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "base/mapped_file.h"
#include "base/parallel.h"

namespace gander::gpu {

namespace {

/// Splits [begin, end) into tasks of `step` for all cores.
void in_tasks(std::uint32_t begin, std::uint32_t end, std::uint32_t step,
              const std::function<void(std::uint32_t begin, std::uint32_t end)>& work) {
  const unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  parallel_for(threads, (end - begin + step - 1) / step, [&](std::size_t task) {
    const std::uint32_t first = begin + static_cast<std::uint32_t>(task) * step;
    work(first, std::min(first + step, end));
  });
}

/// As many as fit in a piece, in whole steps, and at least one step.
std::uint32_t in_a_piece(std::uint64_t bytes_of_step, std::uint32_t step) {
  return static_cast<std::uint32_t>(
             std::max<std::uint64_t>(Device::kFillBytes / bytes_of_step, 1)) *
         step;
}

}  // namespace

void Upload::advance(std::uint64_t bytes) {
  done_ += bytes;
  if (progress_) progress_(std::min(done_, all_), all_);
}

void Upload::copy(const View& view, std::span<const std::byte> bytes) {
  for (std::uint64_t begin = 0; begin < bytes.size(); begin += Device::kFillBytes) {
    const auto piece = bytes.subspan(begin, std::min(bytes.size() - begin, Device::kFillBytes));
    const View part = view.part(begin, piece.size());
    device_.fill({&part, 1}, [&](std::span<std::byte> out) {
      std::memcpy(out.data(), piece.data(), piece.size());
    });
    MappedFile::release(piece);
    advance(piece.size());
  }
}

void Upload::rows(const View& view, const Matrix& matrix, std::uint32_t tile,
                  const ConvertRows& convert) {
  constexpr std::uint32_t kStep = 64;  // of a task
  const auto in_tiles = [&](std::uint64_t rows) { return (rows + tile - 1) / tile * tile; };
  const std::uint64_t row = view.size / in_tiles(matrix.rows);
  const std::uint32_t count = in_a_piece(row * kStep, kStep);
  for (std::uint32_t first = 0; first < matrix.rows; first += count) {
    const std::uint32_t last = std::min(first + count, matrix.rows);
    const View part = view.part(first * row, in_tiles(last - first) * row);
    device_.fill({&part, 1}, [&](std::span<std::byte> out) {
      in_tasks(first, last, kStep, [&](std::uint32_t begin, std::uint32_t end) {
        convert(begin, end, out.subspan((begin - first) * row, in_tiles(end - begin) * row));
      });
    });
    MappedFile::release({matrix.row(first), (last - first) * matrix.row_size()});
    advance(part.size);
  }
}

void Upload::transpose(const View& view, const Matrix& value) {
  constexpr std::uint32_t kStep = 256;  // of a task
  const std::uint32_t count =
      in_a_piece(transposed_value_bytes(value.type, value.rows, kStep), kStep);
  for (std::uint32_t first = 0; first < value.columns; first += count) {
    const Units piece = {first, std::min(first + count, value.columns)};
    std::vector<View> parts;
    std::uint64_t bytes = 0;
    for (const ByteRange& place : places_of_piece(value, piece)) {
      parts.push_back(view.part(place.offset, place.size));
      bytes += place.size;
    }
    device_.fill(parts, [&](std::span<std::byte> out) {
      in_tasks(piece.begin, piece.end, kStep, [&](std::uint32_t begin, std::uint32_t end) {
        transpose_value(value, {begin, end}, piece, out);
      });
    });
    advance(bytes);
  }
  MappedFile::release({value.data, value.size()});
}

void Upload::finish() {
  device_.finish_fills();
  if (progress_) progress_(all_, all_);  // what is absent was not copied
}

}  // namespace gander::gpu
