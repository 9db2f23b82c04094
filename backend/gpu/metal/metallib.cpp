#include "backend/gpu/metal/metallib.h"

#include <cstddef>
#include <span>

// GANDER_METALLIB_3_1 and GANDER_METALLIB_3_2 are paths of files; the second file may be empty.
#ifdef GANDER_METALLIB_3_1

asm(R"(
  .section __TEXT,__const
  .balign 16
  .private_extern _gander_metallib_3_1
_gander_metallib_3_1:
  .incbin ")" GANDER_METALLIB_3_1 R"("
  .private_extern _gander_metallib_3_1_end
_gander_metallib_3_1_end:
  .balign 16
  .private_extern _gander_metallib_3_2
_gander_metallib_3_2:
  .incbin ")" GANDER_METALLIB_3_2 R"("
  .private_extern _gander_metallib_3_2_end
_gander_metallib_3_2_end:
  .byte 0
  .text
)");

extern "C" {
extern const std::byte gander_metallib_3_1[], gander_metallib_3_1_end[];
extern const std::byte gander_metallib_3_2[], gander_metallib_3_2_end[];
// With neither queue nor destructor the bytes are copied. Returns an owned object.
void* dispatch_data_create(const void* bytes, std::size_t size, void* queue, void* destructor);
}

namespace gander::gpu::metal {

Retained<Library> built_library(MetalGpu gpu, bool metal_3_2) {
  const auto bytes = metal_3_2 ? std::span(gander_metallib_3_2, gander_metallib_3_2_end)
                               : std::span(gander_metallib_3_1, gander_metallib_3_1_end);
  if (bytes.empty()) return {};
  const Retained<Object> data(
      Object{dispatch_data_create(bytes.data(), bytes.size(), nullptr, nullptr)});
  NSError error;  // the source says what is wrong, if anything is
  return gpu.new_library(data.get(), error);
}

}  // namespace gander::gpu::metal

#else

namespace gander::gpu::metal {

Retained<Library> built_library(MetalGpu, bool) {
  return {};
}

}  // namespace gander::gpu::metal

#endif
