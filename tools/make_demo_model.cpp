// Makes models/gander-demo-25m.gguf from the trained checkpoint and its vocabulary: Q8_0 for the
// large matrices, F16 for the low-rank ones, F32 for the rest.
// usage: make_demo_model model.safetensors vocab.txt gander-demo-25m.gguf
#include <fmt/core.h>

#include <exception>

#include "model/gguf_export.h"

namespace {

const gander::GgufMetadata kDescription = {
    {"general.type", std::string("model")},
    {"general.name", std::string("gander demo 25M")},
    {"general.size_label", std::string("25M")},
    {"general.description",
     std::string("A tiny RWKV-7 that tells short stories and chats a little. A demonstration, not "
                 "a source of facts.")},
    {"general.license", std::string("other")},
    {"general.license.name", std::string("see models/README.md for the licences of the data")},
    {"general.languages", std::vector<std::string>{"en"}},
    {"general.tags", std::vector<std::string>{"text-generation", "rwkv"}},
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    fmt::print(stderr, "usage: make_demo_model model.safetensors vocab.txt OUTPUT.gguf\n");
    return 1;
  }
  try {
    using gander::DataType;
    const gander::Weights weights = load_weights(gander::open_checkpoint(arguments[1]));
    const gander::Tokenizer tokenizer = gander::read_vocabulary(arguments[2]);
    export_gguf(arguments[3], weights, &tokenizer, gander::store_as(DataType::Q8_0, DataType::F16),
                kDescription);
  } catch (const std::exception& error) {
    fmt::print(stderr, "make_demo_model: {}\n", error.what());
    return 1;
  }
  return 0;
}
