#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "backend/backend.h"

namespace gander {

/// The maths of RWKV-7 written down plainly in double precision, one token after the other: the
/// oracle every kernel and backend is compared with. Slow, and meant to be read beside the paper.
class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(std::shared_ptr<const Weights> weights, std::uint32_t slots = 1);
  ~ReferenceBackend() override;

  /// Called with each intermediate of each token, by its name in the maths:
  ///   embedded [C], then per layer
  ///   xx xr xw xk xv xa xg r k v [C], then, as the head loop needs them,
  ///   w a g kk k_adjusted v_mixed [C], S [H,N,N], y (of the recurrence), y_norm, y_bonus, y_gated,
  ///   x_att (after the residual) [C], ffn_xx ffn_xk [C], h (after relu²) [F], x_ffn [C], and at
  ///   the end x_out [C] and logits [V] with layer = config().layers.
  using Hook = std::function<void(std::string_view name, std::uint32_t layer,
                                  std::span<const double> values)>;
  void set_hook(Hook hook);

  const Config& config() const override;
  std::string description() const override;
  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override;
  std::uint32_t slots() const override;
  void step(std::span<const SequenceStep> steps, std::span<float> logits,
            std::span<TokenId> best = {}) override;
  void read_state(State& state, std::uint32_t slot = 0) const override;
  void write_state(const State& state, std::uint32_t slot = 0) override;
  void reset(std::uint32_t slot = 0) override;

  /// The logits of the last forward() that computed any, in double precision.
  std::span<const double> logits() const;

 private:
  void feed(const SequenceStep& step, std::span<float> logits);

  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace gander
