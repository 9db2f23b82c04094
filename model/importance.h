#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace gander {

/// How much the columns of each matrix matter: the mean square of what the matrix reads there, over
/// some text. By the matrix's GGUF name.
using Importance = std::map<std::string, std::vector<float>, std::less<>>;

}  // namespace gander
