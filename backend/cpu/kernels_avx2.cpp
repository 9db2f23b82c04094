#ifdef GANDER_X86_KERNELS

#include <utility>

#include "backend/cpu/integers.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/vector.h"

namespace gander {

namespace {
#include "backend/cpu/kernels.inl"
}  // namespace

extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = table("avx2");

}  // namespace gander

#endif
