#include "backend/gpu/metal/metallib.h"

#include <cstddef>
#include <cstdint>

// GANDER_METALLIB_3_1 and GANDER_METALLIB_3_2 are paths of files; the second file may be empty.
#ifdef GANDER_METALLIB_3_1

// A linker may move what begins at a symbol, so each library is one: its size, then its bytes.
asm(R"(
  .section __TEXT,__const
  .private_extern _gander_metallib_3_1
  .private_extern _gander_metallib_3_2
  .balign 16
_gander_metallib_3_1:
  .quad Lmetallib_3_1_end - Lmetallib_3_1_begin
Lmetallib_3_1_begin:
  .incbin ")" GANDER_METALLIB_3_1 R"("
Lmetallib_3_1_end:
  .balign 16
_gander_metallib_3_2:
  .quad Lmetallib_3_2_end - Lmetallib_3_2_begin
Lmetallib_3_2_begin:
  .incbin ")" GANDER_METALLIB_3_2 R"("
Lmetallib_3_2_end:
  .text
)");

extern "C" {
struct EmbeddedLibrary {  // its bytes follow
  std::uint64_t size;
};
extern const EmbeddedLibrary gander_metallib_3_1, gander_metallib_3_2;
// With neither queue nor destructor the bytes are copied. Returns an owned object.
void* dispatch_data_create(const void* bytes, std::size_t size, void* queue, void* destructor);
}

namespace gander::gpu::metal {

Retained<Library> built_library(MetalGpu gpu, bool metal_3_2) {
  const auto& built = metal_3_2 ? gander_metallib_3_2 : gander_metallib_3_1;
  if (built.size == 0) return {};
  const Retained<Object> data(
      Object{dispatch_data_create(&built + 1, built.size, nullptr, nullptr)});
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
