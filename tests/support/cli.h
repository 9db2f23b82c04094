#pragma once

#include <string>
#include <vector>

#include "model/tokenizer/tokenizer.h"
#include "model/weights.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

namespace gander {

/// The gander executable with these arguments.
std::vector<std::string> gander_command(const std::vector<std::string>& arguments);
ProcessResult run_gander(const std::vector<std::string>& arguments, ProcessOptions options = {});

/// A folder with what the tests of the command line need: a synthetic model of 2 layers and 300
/// tokens, with and without a tokenizer inside, and its vocabulary as a text file.
class CliFolder {
 public:
  CliFolder();

  std::string path(const std::string& name) const { return folder_.path(name); }
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& text) const;

  const Weights& weights() const { return weights_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  std::string model() const { return path("model.gguf"); }
  std::string bare_model() const { return path("bare.gguf"); }
  std::string vocabulary() const { return path("tokens.txt"); }

 private:
  TemporaryFolder folder_;
  Weights weights_;
  Tokenizer tokenizer_;
};

std::string read_text(const std::string& path);

}  // namespace gander
