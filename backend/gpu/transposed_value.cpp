#include "backend/gpu/transposed_value.h"

#include "base/error.h"

namespace gander::gpu {

std::uint64_t transposed_value_bytes(DataType type, std::uint32_t rows, std::uint32_t columns) {
  return row_bytes(type, columns) * rows;
}

void transpose_value(const Matrix& value, std::span<std::byte> /*out*/) {
  fail("a matrix of type {} cannot be transposed yet", name(value.type));
}

}  // namespace gander::gpu
