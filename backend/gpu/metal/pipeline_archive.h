#pragma once

#include <cstdint>
#include <string>

#include "backend/gpu/metal/metal_api.h"

namespace gander::gpu::metal {

/// Pipelines compiled for this GPU by an earlier run, in a file. The file is only ever a saving of
/// time: one that is missing, broken or written for another system is passed over and replaced.
class PipelineArchive {
 public:
  /// No file: every pipeline is compiled.
  PipelineArchive() = default;
  /// The file for `gpu`, this version of macOS and these kernels in `folder`, which need not exist.
  PipelineArchive(MetalGpu gpu, const std::string& folder, std::uint64_t kernels_hash);

  /// From the archive, else compiled and added to it. Empty, with an error, when Metal refuses.
  Retained<PipelineState> pipeline(MetalGpu gpu, PipelineDescriptor descriptor, NSError& error);

  /// Writes the file if it lacks a pipeline that was made since, under another name and then
  /// renamed, so that gander running twice never reads half a file.
  void save();

 private:
  std::string path_;
  Retained<BinaryArchive> archive_;
  bool changed_ = false;
};

/// ~/Library/Caches/gander; empty without a home folder.
std::string default_cache_folder();

}  // namespace gander::gpu::metal
