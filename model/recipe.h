#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/gguf_export.h"

namespace gander {

/// Which type each matrix of a quantised model gets.
struct Recipe {
  DataType type = DataType::Q8_0;  ///< of most large matrices
  std::string mix = "balanced";    ///< a name of mixes(): which matrices get more
  /// Matrices whose GGUF name contains the text get this type instead; the last one counts.
  std::vector<std::pair<std::string, DataType>> exceptions = {};
};

struct Mix {
  std::string_view name, description;
};

/// The mixes there are, the default first.
std::span<const Mix> mixes();

/// The chooser for export_gguf. Low-rank matrices get 8 bits or more: `type` if it has them, else
/// Q8_0. A matrix whose columns are no multiple of a type's block gets Q8_0 or, where that does not
/// fit either, F16. Throws Error for an unknown mix.
ChooseType choose_by(const Recipe& recipe);

/// The type the recipe means for a matrix before what does not fit is replaced.
DataType intended_type(const Recipe& recipe, std::string_view name);

}  // namespace gander
