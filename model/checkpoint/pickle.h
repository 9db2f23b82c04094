#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gander {

/// A tensor as torch.save describes it: a view of `shape` and `stride` (in elements), `offset`
/// elements into the storage of that key.
struct PickledTensor {
  std::string name;
  std::string storage_type;  ///< torch's class: "BFloat16Storage"
  std::string storage_key;
  std::uint64_t storage_size = 0;  ///< elements
  std::uint64_t offset = 0;
  std::vector<std::uint64_t> shape, stride;
};

/// Runs the pickle of a state_dict on a machine that can do nothing but build dictionaries and
/// descriptions of tensors. A pickle is a program that may call any Python function; this one may
/// call collections.OrderedDict and torch._utils._rebuild_tensor_v2, which are imitated, and
/// anything else is an Error that names the opcode or the callable. An outer dictionary with a
/// "state_dict" is unwrapped. `path` is for messages.
std::vector<PickledTensor> unpickle_tensors(std::span<const std::byte> pickle,
                                            const std::string& path);

}  // namespace gander
