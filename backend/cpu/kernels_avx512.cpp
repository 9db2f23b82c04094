#ifdef GANDER_X86_KERNELS

#include <utility>

#include "backend/cpu/integers.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/vector.h"
#include "model/quant/decode.h"

namespace gander {

namespace {
#include "backend/cpu/kernels.inl"
#include "backend/cpu/packed_kernels.inl"
#include "backend/cpu/quantize.inl"
}  // namespace

extern const Kernels kernels_avx512;
const Kernels kernels_avx512 = table("avx512");

}  // namespace gander

#endif
