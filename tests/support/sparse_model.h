#pragma once

#include <string>
#include <string_view>

#include "model/weights.h"

namespace gander {

/// Widths of a released model: "0.1b", "0.4b", "1.5b", "2.9b", "7.2b" or "13.3b".
Config released_config(std::string_view size);

/// A model of any size that takes neither memory nor disk: its matrices lie in a sparse file at
/// `path`, in the order and with the alignment of a GGUF, and are never read. Rows that are no
/// whole number of the type's blocks are F16.
Weights make_sparse_weights(const Config& config, DataType large, DataType low_rank,
                            const std::string& path);

}  // namespace gander
