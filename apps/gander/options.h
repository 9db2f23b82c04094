#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "engine/model.h"
#include "engine/sampler.h"

namespace gander {

/// What a command does once its options are parsed; returns the exit code.
using Action = std::function<int()>;

/// $GANDER_BACKEND, else "auto".
std::string default_backend();

/// Options of every command that opens a model.
struct ModelOptions {
  std::string path;  ///< empty: the built-in model
  std::string backend = default_backend();
  std::string vocabulary;
  unsigned threads = 0;
  std::string device;
  std::string sync = "async";
  std::string state_type = "f32";
  std::string capture;
  bool unfused = false;
  bool skip_memory_check = false;
  bool skip_self_test = false;
};

void add_model_argument(CLI::App& command, ModelOptions& options);
void add_vocabulary_option(CLI::App& command, ModelOptions& options);
/// --backend and --device.
void add_device_options(CLI::App& command, ModelOptions& options);
/// The same, --threads, --vocab, --no-memory-check, --no-self-test, and what else a GPU can be
/// told.
void add_model_options(CLI::App& command, ModelOptions& options);

/// An option for a number from 1 to `most`, of which `value` is the default.
void add_count(CLI::App& command, const char* name, std::uint32_t& value, const char* what,
               std::uint32_t most = 1U << 20);

/// The model of `options`, without a backend.
Model open_model(const ModelOptions& options);
/// What a backend is created with. Warnings go to stderr, and so does a bar while weights load.
BackendOptions backend_options(const ModelOptions& options);
/// Checks the memory and creates the backend, for so many sequences.
std::unique_ptr<Backend> create_backend(const Model& model, const ModelOptions& options,
                                        std::uint32_t slots = 1);

/// Options of the commands that generate text.
struct SamplerOptions {
  SamplerSettings settings;
  std::vector<std::string> logit_bias;  ///< "ID=VALUE"
  std::optional<std::uint64_t> seed;
  bool greedy = false;
};

void add_sampler_options(CLI::App& command, SamplerOptions& options);
/// The settings, with the seed chosen at random when none was given.
SamplerSettings sampler_settings(const SamplerOptions& options);

/// Token ids separated by commas, blanks or brackets. Throws Error naming what is not an id.
std::vector<TokenId> parse_token_ids(std::string_view text);

/// The entry of `candidates` that `word` was probably meant to be; empty when none is close.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace gander
