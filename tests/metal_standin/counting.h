#pragma once

#include "tests/metal_standin/standin.h"

namespace gander::standin {

/// Adds to one of the counters: count(&Counters::waits).
void count(std::uint64_t Counters::*member, std::uint64_t by = 1);

}  // namespace gander::standin
