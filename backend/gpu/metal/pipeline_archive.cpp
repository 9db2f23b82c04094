#include "backend/gpu/metal/pipeline_archive.h"

#include <unistd.h>
#include <xxhash.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace gander::gpu::metal {
namespace {

// "Version 14.5 (Build 23F79)": compiled pipelines are for one build of the system.
std::string system_version() {
  const auto process = send<"processInfo", Object>(class_named("NSProcessInfo"));
  return to_text(send<"operatingSystemVersionString", String>(process));
}

// Without a file it is empty.
Retained<BinaryArchive> open_archive(MetalGpu gpu, Url file) {
  const auto descriptor = make_object<BinaryArchiveDescriptor>();
  if (file) descriptor->set_url(file);
  NSError error;
  return gpu.new_binary_archive(descriptor.get(), error);
}

}  // namespace

PipelineArchive::PipelineArchive(MetalGpu gpu, const std::string& folder,
                                 std::uint64_t kernels_hash) {
  const auto device = to_text(gpu.name()) + '\n' + system_version();
  const auto key = XXH3_64bits_withSeed(device.data(), device.size(), kernels_hash);
  path_ = fmt::format("{}/pipelines-{:016x}.metalarchive", folder, key);
  const Url file = make_file_url(path_);
  std::error_code missing;
  if (std::filesystem::exists(path_, missing)) archive_ = open_archive(gpu, file);
  if (!archive_) archive_ = open_archive(gpu, Url{});
}

Retained<PipelineState> PipelineArchive::pipeline(MetalGpu gpu, PipelineDescriptor descriptor,
                                                  NSError& error) {
  if (!archive_) return gpu.new_pipeline(descriptor, PipelineOption::None, error);
  descriptor.set_binary_archives(make_array(archive_.get()));
  NSError miss;
  auto found = gpu.new_pipeline(descriptor, PipelineOption::FailOnBinaryArchiveMiss, miss);
  if (found) return found;
  auto compiled = gpu.new_pipeline(descriptor, PipelineOption::None, error);
  if (compiled && archive_->add(descriptor, miss)) changed_ = true;
  return compiled;
}

void PipelineArchive::save() {
  if (!changed_) return;
  changed_ = false;
  namespace fs = std::filesystem;
  std::error_code ignored;
  fs::create_directories(fs::path(path_).parent_path(), ignored);
  const auto unfinished = fmt::format("{}.{}", path_, getpid());
  NSError error;
  const bool written = archive_->serialize(make_file_url(unfinished), error);
  std::error_code failed;
  if (written) fs::rename(unfinished, path_, failed);
  if (!written || failed) fs::remove(unfinished, ignored);
}

std::string default_cache_folder() {
  const char* home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? "" : std::string(home) + "/Library/Caches/gander";
}

}  // namespace gander::gpu::metal
