#pragma once

#include "tests/metal_standin/commands.h"

namespace gander::standin {

/// Runs dispatches that no barrier separates. Several are run in both orders, from the same memory:
/// when the results differ they are not independent, and a barrier is missing. `encoder` is named
/// then.
void run_batch(const std::vector<DispatchCommand>& batch, const std::string& encoder);

}  // namespace gander::standin
