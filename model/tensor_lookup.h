#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/checkpoint/tensor_source.h"
#include "model/weight_names.h"
#include "model/weights.h"

namespace gander {

/// Fetches the tensors of one checkpoint by their canonical names, checks their shapes, and
/// remembers which it was asked for. Every error names the file and the tensor.
/// The source must outlive it.
class TensorLookup {
 public:
  /// Recognises the naming. Throws Error for a model that is not RWKV-7 or a name that occurs
  /// twice.
  explicit TensorLookup(const TensorSource& source);

  const TensorSource& source() const { return source_; }
  Naming naming() const { return naming_; }

  /// Names in the file, see weight_names.h.
  std::string model_name(std::string_view part) const { return model_tensor_name(naming_, part); }
  std::string layer_name(std::uint32_t layer, std::string_view part) const {
    return layer_tensor_name(naming_, layer, part);
  }

  // From here on, `name` is the name in the file.
  bool has(const std::string& name) const { return by_name_.contains(name); }
  /// The tensor. Throws Error when it is missing.
  const Tensor& require(const std::string& name);
  /// One width of the model: a dimension of a matrix. Throws Error for zero and the impossible.
  std::uint32_t width(const Tensor& tensor, std::size_t dimension) const;
  /// The values of a tensor. Throws Error when it is quantised.
  std::vector<float> floats(const Tensor& tensor) const;
  /// A vector of `size` values, leading ones in its shape aside.
  std::vector<float> vector(const std::string& name, std::uint32_t size);
  /// A view of a matrix.
  Matrix matrix(const std::string& name, std::uint32_t rows, std::uint32_t columns);
  /// A low-rank matrix as rows per output. BlinkDL's are the other way round: those are copied.
  Matrix low_rank(const std::string& name, std::uint32_t rows, std::uint32_t columns);
  /// The rank of a low-rank pair, from its first matrix ("att.w1").
  std::uint32_t rank(std::uint32_t layer, std::string_view part);

  /// One more than the largest layer number in a name; a layer missing below it is found later.
  std::uint32_t count_layers() const;
  /// Throws Error if a tensor was never fetched: it means a model that computes something else.
  /// Only the value mix of layer 0 is known to be idle.
  void check_all_used() const;
  [[noreturn]] void fail_shape(const Tensor& tensor, std::string_view expected) const;

  /// What owns the bytes of the matrices that were fetched.
  std::vector<std::shared_ptr<const void>> storage() const;

 private:
  const TensorSource& source_;
  Naming naming_;
  std::unordered_map<std::string_view, const Tensor*> by_name_;
  std::unordered_set<std::string_view> used_;
  std::vector<std::shared_ptr<const void>> copies_;
};

}  // namespace gander
