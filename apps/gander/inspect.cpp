#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "base/memory.h"
#include "model/checkpoint/tensor_source.h"

namespace gander {
namespace {

struct InspectOptions {
  ModelOptions model;
  bool tensors = false;
  bool json = false;
};

// Parameters of an RWKV-7 model of this shape: what docs/formats.md lists, and nothing that a file
// format repeats or pads.
std::uint64_t parameter_count(const Config& config) {
  const std::uint64_t c = config.width;
  const std::uint64_t layers = config.layers;
  const std::uint64_t low_rank =
      layers * 2 * c * (config.rank_w + config.rank_a + config.rank_g) +
      (layers - 1) * (2 * c * config.rank_v + c);  // v1, v2, v0: from the second layer on
  const std::uint64_t vectors = layers * (4 + 6 + 5 + 2 + 1) * c;  // norms, lerps, w0 … r_k
  const std::uint64_t matrices = layers * (4 * c * c + 2 * c * config.ffn_width);
  return 2 * config.vocab_size * c + 4 * c + low_rank + vectors + matrices;
}

// "blocks.3.att.key.weight" as "blocks.N.att.key.weight".
std::string without_layer(const std::string& name) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const std::size_t begin = name.find('.') + 1;
  for (std::size_t start = begin; start != 0 && start < name.size();
       start = name.find('.', start) + 1) {
    const std::size_t end = name.find('.', start);
    if (end != std::string::npos && end > start &&
        std::all_of(name.begin() + static_cast<std::ptrdiff_t>(start),
                    name.begin() + static_cast<std::ptrdiff_t>(end), is_digit)) {
      return name.substr(0, start) + "N" + name.substr(end);
    }
  }
  return name;
}

/// Tensors that differ in their layer only.
struct Group {
  std::string name, type, shape;
  std::size_t count = 0;
  std::uint64_t bytes = 0;
};

std::vector<Group> group_tensors(const TensorSource& source, bool one_by_one) {
  std::vector<Group> groups;
  std::map<std::string, std::size_t> places;
  for (const Tensor& tensor : source.tensors) {
    Group group{one_by_one ? tensor.name : without_layer(tensor.name),
                std::string(name(tensor.type)), shape_text(tensor.shape)};
    const auto [place, is_new] =
        places.try_emplace(group.name + '\0' + group.type + group.shape, groups.size());
    if (is_new) groups.push_back(group);
    groups[place->second].count += 1;
    groups[place->second].bytes += tensor.bytes.size();
  }
  return groups;
}

struct TypeTotal {
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;
};

std::map<std::string, TypeTotal> type_totals(const TensorSource& source) {
  std::map<std::string, TypeTotal> totals;
  for (const Tensor& tensor : source.tensors) {
    TypeTotal& total = totals[std::string(name(tensor.type))];
    total.tensors += 1;
    total.bytes += tensor.bytes.size();
  }
  return totals;
}

Json metadata_json(const MetadataValue& value) {
  if (const auto* strings = std::get_if<std::vector<std::string>>(&value)) {
    return {{"strings", strings->size()}};
  }
  return std::visit(
      [](const auto& scalar) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(scalar)>, std::vector<std::string>>) {
          return nullptr;
        } else {
          return scalar;
        }
      },
      value);
}

std::string metadata_text(const MetadataValue& value) {
  if (const auto* strings = std::get_if<std::vector<std::string>>(&value)) {
    constexpr std::size_t kShown = 8;
    return strings->size() > kShown
               ? fmt::format("[{} strings]", grouped(strings->size()))
               : printable_line(fmt::format("[{}]", fmt::join(*strings, ", ")));
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    constexpr std::size_t kLongest = 60;
    std::string line = *text;
    if (line.size() > kLongest) {
      std::size_t end = kLongest;
      while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0U) == 0x80) --end;
      line = line.substr(0, end) + "…";
    }
    return printable_line(line);
  }
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{:g}", *number);
  return json_text(metadata_json(value));
}

Json inspect_json(const TensorSource& source, const Model& model) {
  const Config& config = model.config();
  Json types = Json::object();
  for (const auto& [type, total] : type_totals(source)) {
    types[type] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
  }
  Json metadata = Json::object();
  for (const auto& [key, value] : source.metadata) metadata[key] = metadata_json(value);
  Json tensors = Json::array();
  for (const Tensor& tensor : source.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"type", name(tensor.type)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes.size()}});
  }
  Json tokenizer = nullptr;
  if (model.tokenizer)
    tokenizer = {{"size", model.tokenizer->size()}, {"origin", model.tokenizer_origin}};
  return {{"path", model.path},
          {"format", model.format},
          {"architecture", "rwkv7"},
          {"naming", model.weights->naming},
          {"parameters", parameter_count(config)},
          {"config",
           {{"vocab_size", config.vocab_size},
            {"width", config.width},
            {"layers", config.layers},
            {"heads", config.heads},
            {"head_size", config.head_size},
            {"ffn_width", config.ffn_width},
            {"rank_w", config.rank_w},
            {"rank_a", config.rank_a},
            {"rank_v", config.rank_v},
            {"rank_g", config.rank_g},
            {"norm_epsilon", config.norm_epsilon}}},
          {"tokenizer", tokenizer},
          {"fingerprint", fmt::format("{:016x}", model.fingerprint)},
          {"bytes_per_token", bytes_per_token(*model.weights)},
          {"state_bytes", State(config).values().size_bytes()},
          {"memory", {{"required", required_memory(model)}, {"available", available_memory()}}},
          {"types", types},
          {"metadata", metadata},
          {"tensors", tensors}};
}

void print_field(std::string_view field, const std::string& value) {
  print(fmt::format("  {:<13} {}\n", field, value));
}

void print_summary(const TensorSource& source, const Model& model) {
  const Config& config = model.config();
  const std::uint64_t parameters = parameter_count(config);
  const double size = static_cast<double>(parameters);
  print(styled(Stream::Output, Style::Bold, printable_line(model.path)) + "\n");
  print_field("format", fmt::format("{}, {} names", model.format, model.weights->naming));
  print_field("architecture",
              fmt::format("RWKV-7, {} parameters", parameters >= 1'000'000'000
                                                       ? fmt::format("{:.2f} B", size / 1e9)
                                                       : fmt::format("{:.1f} M", size / 1e6)));
  print_field("sizes", fmt::format("{} layers, width {}, {} heads of {}, ffn {}, vocabulary {}",
                                   config.layers, config.width, config.heads, config.head_size,
                                   config.ffn_width, config.vocab_size));
  print_field("ranks", fmt::format("w {}, a {}, v {}, g {}", config.rank_w, config.rank_a,
                                   config.rank_v, config.rank_g));
  print_field("tokenizer", model.tokenizer
                               ? fmt::format("ids 0 to {} ({})", model.tokenizer->size() - 1,
                                             printable_line(model.tokenizer_origin))
                               : "none: text needs --vocab FILE");
  std::uint64_t bytes = 0;
  std::string types;
  for (const auto& [type, total] : type_totals(source)) {
    bytes += total.bytes;
    types += fmt::format("{}{} × {} ({})", types.empty() ? "" : ", ", total.tensors, type,
                         bytes_text(total.bytes));
  }
  print_field("tensors",
              fmt::format("{}, {}: {}", source.tensors.size(), bytes_text(bytes), types));
  print_field("per token",
              fmt::format("{} of weights read", bytes_text(bytes_per_token(*model.weights))));
  print_field("state", bytes_text(State(config).values().size_bytes()));
  const std::uint64_t available = available_memory();
  print_field("memory", fmt::format("{} needed, {} available", bytes_text(required_memory(model)),
                                    available == 0 ? "unknown" : bytes_text(available)));
}

void print_tensors(const std::vector<Group>& groups, bool one_by_one) {
  std::size_t name_width = 0;
  std::size_t shape_width = 0;
  for (const Group& group : groups) {
    name_width = std::max(name_width, group.name.size());
    shape_width = std::max(shape_width, group.shape.size());
  }
  print(styled(Stream::Output, Style::Bold, "\ntensors") +
        (one_by_one ? "\n" : "  (N: the layers; --tensors lists each)\n"));
  for (const Group& group : groups) {
    const std::string count = one_by_one ? "" : fmt::format("{:>4} × ", group.count);
    print(fmt::format("  {}{:<{}}  {:<5} {:<{}}  {:>10}\n", count, printable_line(group.name),
                      name_width, group.type, group.shape, shape_width, bytes_text(group.bytes)));
  }
}

int inspect(const InspectOptions& options) {
  const Model model = open_model(options.model);
  const TensorSource source = open_checkpoint(model.path);
  if (options.json) {
    print(json_text(inspect_json(source, model)) + "\n");
    return 0;
  }
  print_summary(source, model);
  if (!source.metadata.empty()) {
    print(styled(Stream::Output, Style::Bold, "\nmetadata") + "\n");
    for (const auto& [key, value] : source.metadata) {
      print(fmt::format("  {} = {}\n", printable_line(key), metadata_text(value)));
    }
  }
  print_tensors(group_tensors(source, options.tensors), options.tensors);
  return 0;
}

}  // namespace

void add_inspect_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = program.add_subcommand("inspect", "Show what a checkpoint holds");
  add_model_argument(*command, options->model);
  command->add_flag("--tensors", options->tensors, "list every tensor by itself");
  command->add_flag("--json", options->json, "print one JSON object");
  add_vocabulary_option(*command, options->model);
  command->footer(
      "Examples:\n"
      "  gander inspect model.gguf\n"
      "  gander inspect model.pth --json");
  command->callback([&action, options] { action = [options] { return inspect(*options); }; });
}

}  // namespace gander
