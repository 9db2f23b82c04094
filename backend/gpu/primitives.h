#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/gpu/recorder.h"

namespace gander::gpu {

#include "kernels/primitives/parameters.h"

/// Records the kernels of kernels/primitives for one layer and one token, a dispatch a call. Views
/// are arrays of floats whose sizes say how much is computed; `y` is what an operation changes.
/// Vectors of weights may be shorter than what they are applied to: they repeat.
class Primitives {
 public:
  /// Dispatches are appended to `program` as those of `layer`. The arguments outlive this.
  Primitives(const Recorder& recorder, Program& program, std::uint32_t layer)
      : recorder_(recorder), program_(program), layer_(layer) {}

  void blit(const View& x, const View& y) const;                      ///< y = x
  void add(const View& x, const View& y) const;                       ///< y = y + x
  void mul(const View& x, const View& y) const;                       ///< y = y ∘ x
  void affine(const View& y, float scale, float bias) const;          ///< y = scale y + bias
  void lerp(const View& factor, const View& x, const View& y) const;  ///< y = y + (x - y) ∘ factor
  void activate(const View& y, std::uint32_t activation) const;       ///< y = activation(y)
  /// y = activation(y + bias); activations are GANDER_ACTIVATION_...
  void add_activate(const View& bias, const View& y, std::uint32_t activation) const;

  void layer_norm(const View& y) const;  ///< mean 0, variance 1; no weight, no bias
  void group_norm(const View& y) const;  ///< the same for each head
  void l2_norm(const View& y) const;     ///< length 1 for each head

  /// mixed = x + (shift - x) ∘ mix
  void token_shift(const View& x, const View& shift, const View& mix, const View& mixed) const;
  /// shift = x, then x = v
  void channel_mix(const View& v, const View& x, const View& shift) const;

  /// k = k ∘ (1 + (a - 1) ∘ k_a)
  void control_k(const View& k_a, const View& a, const View& k) const;
  /// packed = k, v, a, kk
  void pack_kvakk(const View& k, const View& v, const View& a, const View& kk,
                  const View& packed) const;
  /// A step of the recurrence on S, and its output y.
  void time_mix(const View& r, const View& w, const View& packed, const View& state,
                const View& y) const;
  /// y = y + the current token's bonus
  void time_first(const View& r_k, const View& r, const View& packed, const View& y) const;

  /// x = the row of the matrix that `token` names.
  void lookup(const View& token, const MatrixView& matrix, const View& x) const;
  /// y = activation(W x)
  void matmul(const MatrixView& matrix, const View& x, const View& y,
              std::uint32_t activation = GANDER_ACTIVATION_NONE) const;
  /// y = W x, where W is stored as transposed_value.h says: columns where x is zero are not read.
  void matmul_sparse(const MatrixView& matrix, const View& x, const View& y) const;

 private:
  // `items` of a launch are taken by a thread, a SIMD group or a thread group each; `scratch` is
  // floats of thread-group memory.
  enum class Item { Thread, SimdGroup, Group };
  template <typename Parameters>
  void record(std::string_view kernel, std::uint32_t weight_types, std::vector<Binding> bindings,
              const Parameters& parameters, Item item, std::uint32_t items,
              std::uint32_t scratch = 0) const;

  const Config& config() const { return recorder_.config(); }

  const Recorder& recorder_;
  Program& program_;
  std::uint32_t layer_;
};

}  // namespace gander::gpu
