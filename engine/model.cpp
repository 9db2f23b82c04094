#include "engine/model.h"

#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/memory.h"
#include "model/checkpoint/tensor_source.h"

#include <dlfcn.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

namespace gander {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVocabularyNames[] = {"rwkv_vocab_v20230424.txt", "vocab.txt"};
constexpr const char* kBuiltinModel = "gander-demo-25m.gguf";

void for_each_matrix(const Weights& weights, const std::function<void(const Matrix&)>& visit) {
  visit(weights.emb);
  for (const LayerWeights& layer : weights.layers) {
    const TimeMixWeights& att = layer.att;
    for (const Matrix* matrix :
         {&att.w1, &att.w2, &att.a1, &att.a2, &att.v1, &att.v2, &att.g1, &att.g2, &att.receptance,
          &att.key, &att.value, &att.output, &layer.ffn.key, &layer.ffn.value}) {
      visit(*matrix);
    }
  }
  visit(weights.head);
}

void for_each_vector(const Weights& weights,
                     const std::function<void(const std::vector<float>&)>& visit) {
  const auto visit_norm = [&](const LayerNormWeights& norm) {
    visit(norm.weight);
    visit(norm.bias);
  };
  visit_norm(weights.ln0);
  for (const LayerWeights& layer : weights.layers) {
    visit_norm(layer.ln1);
    visit_norm(layer.ln2);
    const TimeMixWeights& att = layer.att;
    for (const auto* vector : {&att.x_r, &att.x_w, &att.x_k, &att.x_v, &att.x_a, &att.x_g, &att.w0,
                               &att.a0, &att.v0, &att.k_k, &att.k_a, &att.r_k}) {
      visit(*vector);
    }
    visit_norm(att.ln_x);
    visit(layer.ffn.x_k);
  }
  visit_norm(weights.ln_out);
}

void check_vocabulary_fits(const Tokenizer& tokenizer, const Config& config,
                           const std::string& origin) {
  if (tokenizer.size() <= config.vocab_size) return;
  fail("{}: it has ids up to {}, the model only {} tokens", origin, tokenizer.size() - 1,
       config.vocab_size);
}

std::shared_ptr<const Tokenizer> use(Tokenizer&& tokenizer, const Config& config,
                                     const std::string& origin) {
  check_vocabulary_fits(tokenizer, config, origin);
  return std::make_shared<const Tokenizer>(std::move(tokenizer));
}

void find_tokenizer(Model& model, const TensorSource& source, const std::string& vocabulary_path) {
  if (!vocabulary_path.empty()) {
    model.tokenizer_origin = vocabulary_path;
    model.tokenizer = use(read_vocabulary(vocabulary_path), model.config(), vocabulary_path);
    return;
  }
  if (std::optional<Tokenizer> inside = tokenizer_of(source)) {
    model.tokenizer_origin = "inside the file";
    model.tokenizer = use(std::move(*inside), model.config(), model.path);
    return;
  }
  const fs::path folder =
      fs::is_directory(model.path) ? fs::path(model.path) : fs::path(model.path).parent_path();
  std::vector<std::string> reasons = {"none is inside the file"};
  for (const char* name : kVocabularyNames) {
    const std::string path = (folder / name).string();
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
      reasons.push_back(fmt::format("there is no {}", path));
      continue;
    }
    try {
      model.tokenizer = use(read_vocabulary(path), model.config(), path);
      model.tokenizer_origin = path;
      return;
    } catch (const Error& error) {
      reasons.push_back(fmt::format("{} does not serve ({})", path, error.what()));
    }
  }
  model.tokenizer_origin = fmt::format("{}", fmt::join(reasons, ", "));
}

std::string executable_path() {
#ifdef __APPLE__
  std::uint32_t size = 0;
  _NSGetExecutablePath(nullptr, &size);
  std::string path(size, '\0');
  if (_NSGetExecutablePath(path.data(), &size) != 0) return "";
  path.resize(std::strlen(path.c_str()));
  std::error_code ignored;
  return fs::weakly_canonical(path, ignored).string();
#else
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).string();
#endif
}

// The shared library this code lies in; for the static library it is the executable, too.
std::string library_path() {
  static const char here = 0;
  Dl_info found;
  if (dladdr(&here, &found) == 0 || found.dli_fname == nullptr) return "";
  if (!fs::path(found.dli_fname).is_absolute()) return "";  // argv[0], which says nothing
  std::error_code ignored;
  return fs::weakly_canonical(found.dli_fname, ignored).string();
}

}  // namespace

std::uint64_t fingerprint_of(const Weights& weights, const Tokenizer* tokenizer) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(),
                                                                      &XXH3_freeState);
  if (hash == nullptr) fail("out of memory");
  XXH3_64bits_reset(hash.get());
  const auto add_numbers = [&](std::initializer_list<std::uint64_t> numbers) {
    XXH3_64bits_update(hash.get(), numbers.begin(), numbers.size() * sizeof(std::uint64_t));
  };
  const Config& config = weights.config;
  add_numbers({config.vocab_size, config.width, config.layers, config.heads, config.head_size,
               config.ffn_width, config.rank_w, config.rank_a, config.rank_v, config.rank_g,
               std::bit_cast<std::uint32_t>(config.norm_epsilon)});
  for_each_vector(weights, [&](const std::vector<float>& vector) {
    add_numbers({vector.size()});
    XXH3_64bits_update(hash.get(), vector.data(), vector.size() * sizeof(float));
  });
  // A page from the beginning, the middle and the end of every matrix: reading them whole would
  // take longer than the first answer of a small model.
  for_each_matrix(weights, [&](const Matrix& matrix) {
    add_numbers({static_cast<std::uint64_t>(matrix.type), matrix.rows, matrix.columns});
    const std::size_t size = matrix.data == nullptr ? 0 : matrix.size();
    const std::size_t piece = std::min<std::size_t>(size, 4096);
    if (piece == 0) return;
    for (const std::size_t offset : {std::size_t{0}, (size - piece) / 2, size - piece}) {
      XXH3_64bits_update(hash.get(), matrix.data + offset, piece);
    }
  });
  add_numbers({tokenizer == nullptr ? 0 : tokenizer->fingerprint()});
  const std::uint64_t value = XXH3_64bits_digest(hash.get());
  return value == 0 ? 1 : value;  // 0 means unknown in state files
}

Model open_model(const std::string& path, const std::string& vocabulary_path) {
  const TensorSource source = open_checkpoint(path);
  Model model;
  model.path = path;
  model.format = source.format;
  model.weights = std::make_shared<const Weights>(load_weights(source));
  find_tokenizer(model, source, vocabulary_path);
  model.fingerprint = fingerprint_of(*model.weights, model.tokenizer.get());
  return model;
}

const Tokenizer& require_tokenizer(const Model& model) {
  if (model.tokenizer == nullptr) {
    fail("{}: this checkpoint has no tokenizer: {}; give --vocab FILE (rwkv_vocab_v20230424.txt)",
         model.path, model.tokenizer_origin);
  }
  return *model.tokenizer;
}

std::uint64_t required_memory(const Model& model) {
  std::uint64_t bytes = 0;
  for_each_matrix(*model.weights, [&](const Matrix& matrix) { bytes += matrix.size(); });
  for_each_vector(*model.weights, [&](const std::vector<float>& vector) {
    bytes += vector.size() * sizeof(float);
  });
  const Config& c = model.config();
  // The sequence's state, and the one kept for stop strings.
  bytes += 2 * sizeof(float) * std::uint64_t{c.layers} * c.width * (2 + c.head_size);
  // Activations of a chunk of 64 tokens: about 24 vectors of C, the low-rank middles, F; logits.
  const std::uint64_t per_token =
      std::uint64_t{24} * c.width + c.rank_w + c.rank_a + c.rank_v + c.rank_g + c.ffn_width;
  return bytes + sizeof(float) * (64 * per_token + std::uint64_t{4} * c.vocab_size);
}

void check_memory(const Model& model) {
  const std::uint64_t available = available_memory();
  const std::uint64_t required = required_memory(model);
  if (available != 0 && required > available) {
    fail(
        "{}: running this model needs {} of memory and {} are available; close other programs or "
        "take a smaller or more strongly quantised model",
        model.path, bytes_text(required), bytes_text(available));
  }
}

std::string builtin_model_path() {
  if (const char* path = std::getenv("GANDER_MODEL"); path != nullptr && *path != '\0') return path;
  std::vector<fs::path> folders;
  for (const fs::path file : {executable_path(), library_path()}) {
    // In <prefix>/bin, <prefix>/lib, or <prefix>/lib/<architecture>.
    fs::path folder = file.parent_path();
    for (int level = 0; level < 2 && folder.has_relative_path(); ++level) {
      folder = folder.parent_path();
      folders.push_back(folder / "share/gander/models");
    }
  }
#ifdef GANDER_SOURCE_MODELS_DIR
  folders.emplace_back(GANDER_SOURCE_MODELS_DIR);
#endif
#ifdef GANDER_INSTALL_MODELS_DIR
  folders.emplace_back(GANDER_INSTALL_MODELS_DIR);
#endif
  std::vector<std::string> tried;
  for (const fs::path& folder : folders) {
    std::string path = (folder / kBuiltinModel).string();
    std::error_code ignored;
    if (fs::exists(path, ignored)) return path;
    if (std::ranges::find(tried, path) == tried.end()) tried.push_back(path);
  }
  fail("the built-in model was not found: there is no {}; name a MODEL or set GANDER_MODEL",
       fmt::join(tried, ", no "));
}

}  // namespace gander
