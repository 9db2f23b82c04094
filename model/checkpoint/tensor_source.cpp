#include "model/checkpoint/tensor_source.h"

#include <algorithm>
#include <filesystem>
#include <span>
#include <system_error>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/checkpoint/byte_reader.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/pth.h"
#include "model/checkpoint/safetensors.h"

namespace gander {

namespace {

/// The safetensors file or index of a Hugging Face model folder.
std::string model_in_folder(const std::filesystem::path& folder) {
  for (const char* const name : {"model.safetensors.index.json", "model.safetensors"}) {
    if (std::filesystem::exists(folder / name)) return (folder / name).string();
  }
  std::vector<std::string> candidates;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".safetensors") candidates.push_back(entry.path().string());
  }
  if (candidates.size() == 1) return candidates.front();
  fail("{} is a folder with {} and no model.safetensors.index.json; name the model file itself",
       folder.string(),
       candidates.empty() ? "no .safetensors file"
                          : fmt::format("{} .safetensors files", candidates.size()));
}

[[noreturn]] void fail_unknown_format(std::string_view start, const std::string& path) {
  const auto starts_with = [&](std::string_view magic) { return start.starts_with(magic); };
  if (starts_with("\x80\x02") || starts_with("\x80\x03") || starts_with("\x80\x04")) {
    fail(
        "{}: a bare pickle, as torch.save wrote before PyTorch 1.6; save it again with a newer "
        "PyTorch",
        path);
  }
  if (starts_with("lmgg") || starts_with("fmgg") || starts_with("tjgg")) {
    fail("{}: rwkv.cpp's old ggml format; convert the original model to GGUF", path);
  }
  fail("{}: not a checkpoint: neither GGUF, safetensors nor a PyTorch .pth (it starts with {})",
       path, quote(start.substr(0, 8)));
}

}  // namespace

const Tensor* TensorSource::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors, name, &Tensor::name);
  return found == tensors.end() ? nullptr : &*found;
}

TensorSource open_checkpoint(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return open_checkpoint(model_in_folder(path));
  }
  auto file = std::make_shared<const MappedFile>(path);
  const std::span<const std::byte> bytes = file->bytes();
  const std::string_view text = as_text(bytes);
  const std::string folder = std::filesystem::path(path).parent_path().string();

  TensorSource source;
  if (looks_like_gguf(bytes)) {
    source = parse_gguf(bytes, path);
  } else if (looks_like_pth(bytes)) {
    source = parse_pth(bytes, path);
  } else if (looks_like_safetensors(bytes)) {
    source = parse_safetensors(bytes, path);
    add_hugging_face_config(source, folder);
  } else if (text.starts_with('{')) {
    source = open_safetensors_shards(path);
    add_hugging_face_config(source, folder);
    return source;
  } else {
    fail_unknown_format(text, path);
  }
  source.storage.push_back(std::move(file));
  return source;
}

}  // namespace gander
