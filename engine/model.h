#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/backend.h"
#include "model/tokenizer/tokenizer.h"
#include "model/weights.h"

namespace gander {

/// A model ready for backends: mapped weights, and the tokenizer if there is one.
struct Model {
  std::string path;
  std::string format;  ///< of the file, for people
  std::shared_ptr<const Weights> weights;
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null: only token ids can be used
  std::string tokenizer_origin;   ///< where the tokenizer came from; without one, where it was
                                  ///< looked for and why what was there did not serve
  std::uint64_t fingerprint = 0;  ///< of the weights and the vocabulary; states are bound to it

  const Config& config() const { return weights->config; }
};

/// Opens a checkpoint and finds its tokenizer: `vocabulary_path` if given, else the one inside the
/// file, else rwkv_vocab_v20230424.txt or vocab.txt beside it. One beside it that is malformed, or
/// has ids the model lacks, is passed over. Throws Error.
Model open_model(const std::string& path, const std::string& vocabulary_path = "");

/// The tokenizer, or an Error that says that there is none and what to do (--vocab FILE).
const Tokenizer& require_tokenizer(const Model& model);

/// Hash of the configuration, of the type, shape and sampled contents of every matrix, of every
/// vector, and of the vocabulary (null: none).
std::uint64_t fingerprint_of(const Weights& weights, const Tokenizer* tokenizer);

/// Memory a model needs to run: weights + state + activations. Throws Error with both numbers when
/// the machine has less available than that.
std::uint64_t required_memory(const Model& model);
void check_memory(const Model& model);

/// Where the built-in model is: $GANDER_MODEL, share/gander/models beside the executable's folder,
/// the build tree's models/, or the installed share/gander/models. Throws Error naming the places
/// it looked in.
std::string builtin_model_path();

}  // namespace gander
