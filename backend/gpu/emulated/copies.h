#pragma once

#include <cstdint>

// Copies to group memory that run on while the thread that began them does other things, as late
// as they may: a kernel that does not wait for one reads NaNs.
namespace gander::msl {

/// A launch begins: copies that nobody waited for in the one before are forgotten.
void forget_copies();

/// Of 16 bytes, into the thread's open group of copies.
void begin_copy(void* to, const void* from);
void commit_copies();
/// Does what is left of the thread's groups, all but the last `groups`.
void wait_for_copies_but(std::uint32_t groups);
/// Does the thread's oldest group.
void wait_for_oldest_copies();

}  // namespace gander::msl
