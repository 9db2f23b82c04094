#include "model/state.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/checkpoint/tensor_source.h"
#include "model/quant/blocks.h"

namespace gander {

State::State(const Config& config)
    : layers_(config.layers),
      heads_(config.heads),
      head_size_(config.head_size),
      values_(layer_size() * config.layers) {}

std::size_t State::layer_size() const {
  return std::size_t{width()} * (2 + head_size_);
}

std::span<float> State::att_shift(std::uint32_t layer) {
  return values().subspan(layer * layer_size(), width());
}
std::span<float> State::matrix(std::uint32_t layer) {
  return values().subspan(layer * layer_size() + width(), std::size_t{width()} * head_size_);
}
std::span<float> State::ffn_shift(std::uint32_t layer) {
  return values().subspan((layer + 1) * layer_size() - width(), width());
}
std::span<const float> State::att_shift(std::uint32_t layer) const {
  return values().subspan(layer * layer_size(), width());
}
std::span<const float> State::matrix(std::uint32_t layer) const {
  return values().subspan(layer * layer_size() + width(), std::size_t{width()} * head_size_);
}
std::span<const float> State::ffn_shift(std::uint32_t layer) const {
  return values().subspan((layer + 1) * layer_size() - width(), width());
}

void State::clear() {
  std::ranges::fill(values_, 0.0F);
}

std::uint64_t State::bytes(const Config& config) {
  return sizeof(float) * std::uint64_t{config.layers} * config.width * (2 + config.head_size);
}

bool State::fits(const Config& config) const {
  return layers_ == config.layers && heads_ == config.heads && head_size_ == config.head_size;
}

namespace {

constexpr char kStateMagic[8] = {'G', 'A', 'N', 'D', 'S', 'T', 'A', 'T'};
constexpr std::uint32_t kStateVersion = 1;

// The head of a state file, little endian; tokens, note, values and an XXH64 of all before follow.
struct Header {
  char magic[8];
  std::uint32_t version, layers, heads, head_size;
  std::uint64_t fingerprint, token_count, note_size;
};
static_assert(sizeof(Header) == 48);

template <typename T>
std::span<const std::byte> bytes_of(const T* data, std::size_t count) {
  return std::as_bytes(std::span(data, count));
}

// Gives the parts of a state file to write(), one after the other.
template <typename Write>
void write_parts(const State& state, std::uint64_t fingerprint, std::span<const TokenId> tokens,
                 std::string_view note, const Write& write) {
  Header header{};
  std::memcpy(header.magic, kStateMagic, sizeof kStateMagic);
  header.version = kStateVersion;
  header.layers = state.layers();
  header.heads = state.heads();
  header.head_size = state.head_size();
  header.fingerprint = fingerprint;
  header.token_count = tokens.size();
  header.note_size = note.size();

  const std::unique_ptr<XXH64_state_t, decltype(&XXH64_freeState)> hash(XXH64_createState(),
                                                                        &XXH64_freeState);
  XXH64_reset(hash.get(), 0);
  for (const std::span<const std::byte> part :
       {bytes_of(&header, 1), bytes_of(tokens.data(), tokens.size()),
        bytes_of(note.data(), note.size()),
        bytes_of(state.values().data(), state.values().size())}) {
    XXH64_update(hash.get(), part.data(), part.size());
    write(part);
  }
  const std::uint64_t checksum = XXH64_digest(hash.get());
  write(bytes_of(&checksum, 1));
}

// The state in a state-tuned checkpoint: only S, the shifts start at zero. `.pth` files hold S as
// [value, key] like State, web-rwkv's `.st` files as [key, value].
SavedState read_tuned_state(const TensorSource& source, const Config& config) {
  SavedState saved;
  saved.state = State(config);
  const bool transposed = source.format.starts_with("safetensors");
  const std::size_t n = config.head_size;
  const std::vector<std::uint64_t> expected = {config.heads, n, n};
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    const std::string name = fmt::format("blocks.{}.att.time_state", layer);
    const Tensor* tensor = source.find(name);
    if (tensor == nullptr) {
      fail("{} holds no RWKV state for this model: there is no tensor {}", source.path, name);
    }
    if (tensor->shape != expected) {
      fail("{}: {} is {}, this model needs {}", source.path, name, shape_text(tensor->shape),
           shape_text(expected));
    }
    const std::span<float> matrix = saved.state.matrix(layer);
    dequantize(tensor->type, tensor->bytes.data(), matrix);
    if (!transposed) continue;
    for (std::size_t head = 0; head < config.heads; ++head) {
      float* s = matrix.data() + head * n * n;
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < i; ++j) std::swap(s[i * n + j], s[j * n + i]);
      }
    }
  }
  return saved;
}

}  // namespace

void write_state(const std::string& path, const SavedState& saved) {
  write_state(path, saved.state, saved.fingerprint, saved.tokens, saved.note);
}

void write_state(const std::string& path, const State& state, std::uint64_t fingerprint,
                 std::span<const TokenId> tokens, std::string_view note, AtomicFile::Sync sync) {
  AtomicFile file(path);
  write_parts(state, fingerprint, tokens, note,
              [&file](std::span<const std::byte> part) { file.write(part); });
  file.commit(sync);
}

std::string state_file_bytes(const State& state, std::uint64_t fingerprint,
                             std::span<const TokenId> tokens, std::string_view note) {
  std::string bytes;
  bytes.reserve(sizeof(Header) + tokens.size_bytes() + note.size() + state.values().size_bytes() +
                sizeof(std::uint64_t));
  write_parts(state, fingerprint, tokens, note, [&bytes](std::span<const std::byte> part) {
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
  });
  return bytes;
}

std::uint64_t state_file_size(const Config& config, std::uint64_t tokens, std::uint64_t note_size) {
  return sizeof(Header) + tokens * sizeof(TokenId) + note_size + State::bytes(config) +
         sizeof(std::uint64_t);
}

SavedState parse_state(std::span<const std::byte> bytes, const std::string& path) {
  Header header;
  if (bytes.size() < sizeof header + sizeof(std::uint64_t)) {
    fail("{} is no state file: {} bytes are too few", path, bytes.size());
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kStateMagic, sizeof kStateMagic) != 0) {
    fail("{} is no state file: it does not begin with GANDSTAT", path);
  }
  if (header.version != kStateVersion) {
    fail("{} is a state file of version {}; this gander reads version {}", path, header.version,
         kStateVersion);
  }
  std::uint64_t checksum = 0;
  const std::size_t body = bytes.size() - sizeof checksum;
  std::memcpy(&checksum, bytes.data() + body, sizeof checksum);
  if (XXH64(bytes.data(), body, 0) != checksum) {
    fail("{} is damaged: its checksum does not match", path);
  }

  // Sizes in 64 bits: the factors are bounded first, so that no product can wrap around.
  constexpr std::uint32_t kMost = 1U << 16;
  const std::uint64_t room = body - sizeof header;
  const bool plausible = header.layers <= kMost && header.heads <= kMost &&
                         header.head_size <= (1U << 10) && header.token_count <= room / 4 &&
                         header.note_size <= room;
  Config config;
  config.layers = header.layers;
  config.heads = header.heads;
  config.head_size = header.head_size;
  const std::uint64_t width = std::uint64_t{header.heads} * header.head_size;
  const std::uint64_t per_layer = width * (2 + std::uint64_t{header.head_size});
  if (!plausible || (header.layers != 0 && per_layer > room / 4 / header.layers) ||
      header.token_count * 4 + header.note_size + per_layer * header.layers * 4 != room) {
    fail("{} is damaged: its sizes do not add up to its length, {} bytes", path, bytes.size());
  }

  SavedState saved;
  saved.fingerprint = header.fingerprint;
  saved.state = State(config);
  saved.tokens.resize(header.token_count);
  saved.note.resize(header.note_size);
  const std::byte* data = bytes.data() + sizeof header;
  const auto take = [&data](void* target, std::size_t size) {
    if (size == 0) return;
    std::memcpy(target, data, size);
    data += size;
  };
  take(saved.tokens.data(), saved.tokens.size() * sizeof(TokenId));
  take(saved.note.data(), saved.note.size());
  take(saved.state.values().data(), saved.state.values().size_bytes());
  return saved;
}

SavedState read_state(const std::string& path, const Config& config) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() < sizeof kStateMagic ||
      std::memcmp(bytes.data(), kStateMagic, sizeof kStateMagic) != 0) {
    return read_tuned_state(open_checkpoint(path), config);
  }
  SavedState saved = parse_state(bytes, path);
  if (!saved.state.fits(config)) {
    fail(
        "{} is the state of another model: it has {} layers, {} heads of {}; this model has {}, {} "
        "of {}",
        path, saved.state.layers(), saved.state.heads(), saved.state.head_size(), config.layers,
        config.heads, config.head_size);
  }
  return saved;
}

}  // namespace gander
