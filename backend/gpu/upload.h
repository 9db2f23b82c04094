#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "backend/gpu/device.h"
#include "backend/gpu/transposed_value.h"
#include "model/weights.h"

namespace gander::gpu {

/// Called with bytes done and bytes in all.
using Progress = std::function<void(std::uint64_t done, std::uint64_t all)>;

/// Makes the bytes of rows `begin` to `end` - 1 as a device wants them, in `out`.
using ConvertRows =
    std::function<void(std::uint32_t begin, std::uint32_t end, std::span<std::byte> out)>;

/// Brings a model's weights to a device in pieces of at most Device::kFillBytes, converted on all
/// cores while the piece before is copied. Mapped pages are given back once they have been read, so
/// that the memory that loading takes does not depend on the size of the model.
class Upload {
 public:
  /// `all` is what `progress` (may be null) counts up to. Both arguments outlive this.
  Upload(Device& device, std::uint64_t all, const Progress& progress)
      : device_(device), progress_(progress), all_(all) {}

  /// Bytes as they are in memory.
  void copy(const View& view, std::span<const std::byte> bytes);
  /// A matrix whose rows all become equally long, in whole tiles of `tile` rows (a power of two, at
  /// most 64): `out` of a conversion that ends with the last row has room for the rest of its tile.
  void rows(const View& view, const Matrix& matrix, std::uint32_t tile, const ConvertRows& convert);
  /// The ffn value matrix, by hidden unit.
  void transpose(const View& view, const Matrix& value);
  /// Waits for the copies.
  void finish();

 private:
  void advance(std::uint64_t bytes);

  Device& device_;
  const Progress& progress_;
  std::uint64_t all_, done_ = 0;
};

}  // namespace gander::gpu
