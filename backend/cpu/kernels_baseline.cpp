#include <utility>

#include "backend/cpu/integers.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/vector.h"

namespace gander {

namespace {
#include "backend/cpu/kernels.inl"
}  // namespace

extern const Kernels kernels_baseline;
const Kernels kernels_baseline = table("baseline");

}  // namespace gander
