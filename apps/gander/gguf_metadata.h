#pragma once

#include <string>
#include <vector>

#include "model/checkpoint/gguf_writer.h"
#include "model/checkpoint/tensor_source.h"
#include "model/recipe.h"

namespace gander {

/// "KEY=VALUE" pairs; a value in brackets is a list of texts. Throws Error for what is not a pair,
/// and for keys that follow from the model.
GgufMetadata parse_metadata(const std::vector<std::string>& pairs);

/// What describes a model made from `source`: the keys of `source` that say who made it and how it
/// is used, general.file_type, and `given`, which wins. Without a name it gets the file's.
GgufMetadata metadata_for(const TensorSource& source, const Recipe& recipe,
                          const GgufMetadata& given);

}  // namespace gander
