#include "tests/metal_standin/pipeline.h"

#include "tests/metal_standin/counting.h"

#include <algorithm>

namespace gander::standin {
namespace {

constexpr char kCompilerDomain[] = "AGXMetalG16X";
constexpr long kCompilerError = 3;
constexpr UInteger kFailOnBinaryArchiveMiss = 4;  // MTLPipelineOption

Object* compile_pipeline(Ref<Device> device, Function* function, bool whole_simd_groups,
                         const std::string& label, bool from_archive, Error** error) {
  if (function == nullptr) misuse("a pipeline needs a compute function: it is nil");
  if (failures().pipeline == "*" || failures().pipeline == function->name()) {
    return fail_with(error, kCompilerDomain, kCompilerError,
                     "Compiler encountered an internal error");
  }
  count(from_archive ? &Counters::pipelines_from_archive : &Counters::pipelines_compiled);
  auto pipeline = make<Pipeline>(std::move(device), Ref<Function>(function), whole_simd_groups);
  if (!label.empty()) pipeline->set_label(string(label).get());
  return owned(pipeline);
}

}  // namespace

PipelineDescriptor::PipelineDescriptor() : Labelled(kClass) {}

std::vector<BinaryArchive*> PipelineDescriptor::archives() const {
  std::vector<BinaryArchive*> found;
  if (archives_) {
    for (const auto& item : archives_->items()) {
      found.push_back(static_cast<BinaryArchive*>(item.get()));
    }
  }
  return found;
}

Pipeline::Pipeline(Ref<Device> device, Ref<Function> function, bool whole_simd_groups)
    : Labelled(kClass),
      device_(std::move(device)),
      function_(std::move(function)),
      whole_simd_groups_(whole_simd_groups) {}

UInteger Pipeline::max_threads() {
  const auto limit = settings().max_threads.find(kernel());
  return limit == settings().max_threads.end() ? 1024 : limit->second;
}

Object* make_pipeline(Ref<Device> device, PipelineDescriptor* descriptor, UInteger options,
                      Error** error) {
  if (descriptor == nullptr) misuse("newComputePipelineStateWithDescriptor: with nil");
  Function* function = descriptor->function();
  const auto archives = descriptor->archives();
  const bool found = function != nullptr &&
                     std::any_of(archives.begin(), archives.end(),
                                 [&](const auto* archive) { return archive->has(*function); });
  if (!found && (options & kFailOnBinaryArchiveMiss) != 0) {
    return fail_with(error, kCompilerDomain, kCompilerError,
                     "the pipeline was not found in the binary archives");
  }
  return compile_pipeline(std::move(device), function, descriptor->whole_simd_groups(),
                          descriptor->label(), found, error);
}

Object* make_pipeline(Ref<Device> device, Function* function, Error** error) {
  return compile_pipeline(std::move(device), function, false, "", false, error);
}

const Class PipelineDescriptor::kClass{
    "MTLComputePipelineDescriptor",
    {method<&PipelineDescriptor::set_label>("setLabel:"),
     method<&PipelineDescriptor::get_label>("label"),
     method<&PipelineDescriptor::set_function>("setComputeFunction:"),
     method<&PipelineDescriptor::set_whole_simd_groups>(
         "setThreadGroupSizeIsMultipleOfThreadExecutionWidth:"),
     method<&PipelineDescriptor::set_archives>("setBinaryArchives:")},
    {method<&allocate<PipelineDescriptor>>("alloc"), method<&allocate<PipelineDescriptor>>("new")}};

const Class Pipeline::kClass{
    "MTLComputePipelineState",
    {method<&Pipeline::get_label>("label"),
     method<&Pipeline::max_threads>("maxTotalThreadsPerThreadgroup"),
     method<&Pipeline::execution_width>("threadExecutionWidth"),
     method<&Pipeline::static_group_memory>("staticThreadgroupMemoryLength")}};

}  // namespace gander::standin
