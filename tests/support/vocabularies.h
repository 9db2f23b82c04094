#pragma once

#include <string>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace gander {

/// The 256 single bytes as ids 1..256, followed by `more`.
std::vector<std::string> byte_tokens(const std::vector<std::string>& more = {});
/// A tokenizer of them.
Tokenizer byte_tokenizer(const std::vector<std::string>& more = {});

/// The vocabulary of the built-in model.
std::string demo_vocabulary_path();

}  // namespace gander
