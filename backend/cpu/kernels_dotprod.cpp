#ifdef GANDER_ARM_KERNELS

#include <utility>

#include "backend/cpu/integers.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/vector.h"

namespace gander {

namespace {
#include "backend/cpu/kernels.inl"
}  // namespace

extern const Kernels kernels_dotprod;
const Kernels kernels_dotprod = table("neon-dotprod");

}  // namespace gander

#endif
