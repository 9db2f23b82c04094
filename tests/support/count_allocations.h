#pragma once

namespace gander {

/// Calls of operator new in this program so far; count_allocations.cpp replaces it to count them.
long allocation_count();

}  // namespace gander
