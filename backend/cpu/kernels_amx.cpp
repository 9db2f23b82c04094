#ifdef GANDER_X86_KERNELS

#include <utility>

#include "backend/cpu/integers.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/vector.h"

namespace gander {

namespace {
#include "backend/cpu/kernels.inl"

#include "backend/cpu/amx_kernels.inl"
}  // namespace

extern const Kernels kernels_amx;
const Kernels kernels_amx = table_amx();

}  // namespace gander

#endif
