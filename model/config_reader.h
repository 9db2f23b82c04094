#pragma once

#include "model/config.h"
#include "model/tensor_lookup.h"

namespace gander {

/// Every width of a model, from the shapes of its first layers' tensors. Metadata are used for what
/// shapes do not tell (the head size in GGUF, the norms' epsilon), and must agree about the rest.
/// Throws Error.
Config read_config(TensorLookup& tensors);

}  // namespace gander
