#pragma once

#include <string>
#include <string_view>

namespace gander::gpu::cuda {

/// A module of one kernel without the branches that constants in its text rule out: of the eight
/// weight types that a kernel can read, say, those that no matrix has. The driver's compiler would
/// leave them out too, and makes the same code of either text but for the order of a few
/// instructions; but it reads and checks them first, a quarter of the time that it takes.
///
/// It follows 32-bit registers and predicates that are set in one place, by mov, and, or, shl, shr,
/// comparison for equality and predicates' not, and, or; text with jumps that it does not know
/// (brx) stays as it is.
std::string without_dead_branches(std::string_view ptx);

}  // namespace gander::gpu::cuda
