#include "tests/metal_standin/counting.h"
#include "tests/metal_standin/pipeline.h"

#include <fstream>

// A binary archive as a text file: a first line, then a line for each kernel with its constants.
namespace gander::standin {
namespace {

constexpr char kArchiveDomain[] = "MTLBinaryArchiveDomain";
constexpr long kInvalidFile = 1, kInternalError = 4;
constexpr char kFirstLine[] = "binary archive of the Metal stand-in";

std::string entry_of(const Function& function) {
  std::string entry = function.name();
  for (const auto& [index, value] : function.constants()) {
    entry += fmt::format(" {}:{:x}", index, value.bits);
  }
  return entry;
}

}  // namespace

BinaryArchiveDescriptor::BinaryArchiveDescriptor() : Object(kClass) {}

BinaryArchive::BinaryArchive(Ref<Device> device, std::set<std::string> entries)
    : Labelled(kClass), device_(std::move(device)), entries_(std::move(entries)) {}

bool BinaryArchive::has(const Function& function) const {
  return entries_.contains(entry_of(function));
}

bool BinaryArchive::add(PipelineDescriptor* descriptor, Error** error) {
  if (descriptor == nullptr || descriptor->function() == nullptr) {
    fail_with(error, kArchiveDomain, kInternalError, "the descriptor has no compute function");
    return false;
  }
  entries_.insert(entry_of(*descriptor->function()));
  return true;
}

bool BinaryArchive::serialize(Url* url, Error** error) {
  std::ofstream file(url == nullptr ? "" : url->file());
  file << kFirstLine << '\n';
  for (const std::string& entry : entries_) file << entry << '\n';
  file.flush();
  if (!file || failures().archive) {
    fail_with(error, kArchiveDomain, kInvalidFile, "the archive could not be written");
    return false;
  }
  return true;
}

Object* open_archive(Ref<Device> device, BinaryArchiveDescriptor* descriptor, Error** error) {
  if (descriptor == nullptr) misuse("newBinaryArchiveWithDescriptor: with nil");
  std::set<std::string> entries;
  if (descriptor->url() != nullptr) {
    std::ifstream file(descriptor->url()->file());
    std::string line;
    if (!std::getline(file, line) || line != kFirstLine || failures().archive) {
      return fail_with(error, kArchiveDomain, kInvalidFile, "Invalid URL or not a binary archive");
    }
    while (std::getline(file, line)) entries.insert(line);
  }
  return owned(make<BinaryArchive>(std::move(device), std::move(entries)));
}

const Class BinaryArchiveDescriptor::kClass{"MTLBinaryArchiveDescriptor",
                                            {method<&BinaryArchiveDescriptor::set_url>("setUrl:")},
                                            {method<&allocate<BinaryArchiveDescriptor>>("alloc"),
                                             method<&allocate<BinaryArchiveDescriptor>>("new")}};

const Class BinaryArchive::kClass{
    "MTLBinaryArchive",
    {method<&BinaryArchive::set_label>("setLabel:"), method<&BinaryArchive::get_label>("label"),
     method<&BinaryArchive::add>("addComputePipelineFunctionsWithDescriptor:error:"),
     method<&BinaryArchive::serialize>("serializeToURL:error:")}};

}  // namespace gander::standin
