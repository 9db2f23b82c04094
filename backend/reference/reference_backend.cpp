#include "backend/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "model/quant/blocks.h"

namespace gander {

namespace {

using Vector = std::vector<double>;

Vector row_of(const Matrix& matrix, std::size_t row) {
  std::vector<float> values(matrix.columns);
  dequantize(matrix.type, matrix.row(row), values);
  return {values.begin(), values.end()};
}

// W x; large matrices on all cores, each row by one thread.
Vector product(const Matrix& matrix, const Vector& x) {
  constexpr std::size_t kRows = 256;  // of a task
  Vector y(matrix.rows);
  const bool large = std::size_t{matrix.rows} * matrix.columns >= (1U << 20);
  const unsigned threads = large ? std::max(1U, std::thread::hardware_concurrency()) : 1;
  parallel_for(threads, (y.size() + kRows - 1) / kRows, [&](std::size_t task) {
    std::vector<float> row(matrix.columns);
    for (std::size_t i = task * kRows; i < std::min(y.size(), (task + 1) * kRows); ++i) {
      dequantize(matrix.type, matrix.row(i), row);
      for (std::size_t j = 0; j < row.size(); ++j) y[i] += row[j] * x[j];
    }
  });
  return y;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

template <typename Function>
Vector map(Vector x, Function function) {
  std::ranges::transform(x, x.begin(), function);
  return x;
}

void add(Vector& x, const Vector& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

// (x - mean) / sqrt(variance + epsilon) over each of `groups` equal parts, then weight and bias.
// One group is LayerNorm, one per head is GroupNorm. The variance is the biased one.
Vector normalize(const Vector& x, const LayerNormWeights& weights, std::size_t groups,
                 double epsilon) {
  const std::size_t size = x.size() / groups;
  Vector y(x.size());
  for (std::size_t begin = 0; begin < x.size(); begin += size) {
    double mean = 0;
    double variance = 0;
    for (std::size_t i = begin; i < begin + size; ++i) mean += x[i] / static_cast<double>(size);
    for (std::size_t i = begin; i < begin + size; ++i) {
      variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(size);
    }
    for (std::size_t i = begin; i < begin + size; ++i) {
      y[i] = (x[i] - mean) / std::sqrt(variance + epsilon) * weights.weight[i] + weights.bias[i];
    }
  }
  return y;
}

// Token shift: (previous - xx) * mu + xx
Vector shift(const Vector& xx, const Vector& previous, const std::vector<float>& mu) {
  Vector y(xx.size());
  for (std::size_t i = 0; i < xx.size(); ++i) y[i] = xx[i] + (previous[i] - xx[i]) * mu[i];
  return y;
}

}  // namespace

struct ReferenceBackend::Implementation {
  std::shared_ptr<const Weights> weights;
  Hook hook;
  struct Sequence {
    std::vector<Vector> att_shift, matrix, ffn_shift;  // per layer
  };
  std::vector<Sequence> slots;
  std::size_t slot = 0;  // of the sequence that is fed
  Vector v_first;        // layer 0's v of the current token
  Vector logits;

  Sequence& state() { return slots[slot]; }

  void report(std::string_view name, std::uint32_t layer, const Vector& values) const {
    if (hook) hook(name, layer, values);
  }

  void token(TokenId token, bool want_logits);
  Vector time_mix(std::uint32_t layer, const Vector& x);
  Vector channel_mix(std::uint32_t layer, const Vector& x);
};

void ReferenceBackend::Implementation::token(TokenId token, bool want_logits) {
  const Config& config = weights->config;
  Vector x = normalize(row_of(weights->emb, token), weights->ln0, 1, config.norm_epsilon);
  report("embedded", 0, x);
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    add(x, time_mix(layer, x));
    report("x_att", layer, x);
    add(x, channel_mix(layer, x));
    report("x_ffn", layer, x);
  }
  if (!want_logits) return;
  x = normalize(x, weights->ln_out, 1, config.norm_epsilon);
  report("x_out", config.layers, x);
  logits = product(weights->head, x);
  report("logits", config.layers, logits);
}

Vector ReferenceBackend::Implementation::time_mix(std::uint32_t layer, const Vector& x) {
  const Config& config = weights->config;
  const TimeMixWeights& att = weights->layers[layer].att;
  const std::size_t n = config.head_size;

  const Vector xx = normalize(x, weights->layers[layer].ln1, 1, config.norm_epsilon);
  const Vector previous = std::exchange(state().att_shift[layer], xx);
  const Vector xr = shift(xx, previous, att.x_r);
  const Vector xw = shift(xx, previous, att.x_w);
  const Vector xk = shift(xx, previous, att.x_k);
  const Vector xv = shift(xx, previous, att.x_v);
  const Vector xa = shift(xx, previous, att.x_a);
  const Vector xg = shift(xx, previous, att.x_g);
  report("xx", layer, xx);
  report("xr", layer, xr);
  report("xw", layer, xw);
  report("xk", layer, xk);
  report("xv", layer, xv);
  report("xa", layer, xa);
  report("xg", layer, xg);

  const Vector r = product(att.receptance, xr);
  Vector k = product(att.key, xk);
  Vector v = product(att.value, xv);
  report("r", layer, r);
  report("k", layer, k);
  report("v", layer, v);

  // Low-rank vectors: the decay has tanh in the middle, the gate sigmoid, the others nothing.
  Vector w = product(att.w2, map(product(att.w1, xw), [](double t) { return std::tanh(t); }));
  Vector a = product(att.a2, product(att.a1, xa));
  const Vector g = product(att.g2, map(product(att.g1, xg), sigmoid));
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i] = std::exp(-kDecayScale * sigmoid(att.w0[i] + w[i]));
    a[i] = sigmoid(att.a0[i] + a[i]);
  }

  // kk uses k before its adjustment; max(norm, 1e-12), not norm + 1e-12.
  Vector kk(k.size());
  for (std::size_t begin = 0; begin < k.size(); begin += n) {
    double square = 0;
    for (std::size_t i = begin; i < begin + n; ++i) {
      kk[i] = k[i] * att.k_k[i];
      square += kk[i] * kk[i];
    }
    const double norm = std::max(std::sqrt(square), 1e-12);
    for (std::size_t i = begin; i < begin + n; ++i) kk[i] /= norm;
  }
  for (std::size_t i = 0; i < k.size(); ++i) k[i] *= 1 + (a[i] - 1) * att.k_a[i];

  if (layer == 0) {
    v_first = v;
  } else {
    const Vector mix = product(att.v2, product(att.v1, xv));
    for (std::size_t i = 0; i < v.size(); ++i) {
      v[i] += (v_first[i] - v[i]) * sigmoid(att.v0[i] + mix[i]);
    }
  }
  report("w", layer, w);
  report("a", layer, a);
  report("g", layer, g);
  report("kk", layer, kk);
  report("k_adjusted", layer, k);
  report("v_mixed", layer, v);

  // S_ij = S_ij w_j + (S_i . -kk) kk_j a_j + v_i k_j, and y_i = S_i . r with the updated state.
  Vector y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {  // row i of S over all heads
    double* s = state().matrix[layer].data() + i * n;
    const std::size_t head = i / n * n;  // first channel of the head
    double sa = 0;
    for (std::size_t j = 0; j < n; ++j) sa -= s[j] * kk[head + j];
    for (std::size_t j = 0; j < n; ++j) {
      s[j] = s[j] * w[head + j] + sa * kk[head + j] * a[head + j] + v[i] * k[head + j];
      y[i] += s[j] * r[head + j];
    }
  }
  report("S", layer, state().matrix[layer]);
  report("y", layer, y);

  y = normalize(y, att.ln_x, config.heads, config.norm_epsilon * static_cast<double>(n));
  report("y_norm", layer, y);
  for (std::size_t begin = 0; begin < y.size(); begin += n) {
    double bonus = 0;
    for (std::size_t j = begin; j < begin + n; ++j) bonus += r[j] * k[j] * att.r_k[j];
    for (std::size_t j = begin; j < begin + n; ++j) y[j] += bonus * v[j];
  }
  report("y_bonus", layer, y);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] *= g[i];
  report("y_gated", layer, y);
  return product(att.output, y);
}

Vector ReferenceBackend::Implementation::channel_mix(std::uint32_t layer, const Vector& x) {
  const ChannelMixWeights& ffn = weights->layers[layer].ffn;
  const Vector xx = normalize(x, weights->layers[layer].ln2, 1, weights->config.norm_epsilon);
  const Vector previous = std::exchange(state().ffn_shift[layer], xx);
  const Vector xk = shift(xx, previous, ffn.x_k);
  const Vector h = map(product(ffn.key, xk), [](double t) { return t > 0 ? t * t : 0; });
  report("ffn_xx", layer, xx);
  report("ffn_xk", layer, xk);
  report("h", layer, h);
  return product(ffn.value, h);
}

ReferenceBackend::ReferenceBackend(std::shared_ptr<const Weights> weights, std::uint32_t slots)
    : implementation_(std::make_unique<Implementation>()) {
  implementation_->weights = std::move(weights);
  implementation_->slots.resize(slots);
  for (std::uint32_t slot = 0; slot < slots; ++slot) reset(slot);
}

ReferenceBackend::~ReferenceBackend() = default;

void ReferenceBackend::set_hook(Hook hook) {
  implementation_->hook = std::move(hook);
}

const Config& ReferenceBackend::config() const {
  return implementation_->weights->config;
}

std::string ReferenceBackend::description() const {
  return "reference (double precision)";
}

void ReferenceBackend::forward(std::span<const TokenId> tokens, Logits which,
                               std::span<float> logits) {
  feed({0, tokens, which}, logits);
}

std::uint32_t ReferenceBackend::slots() const {
  return static_cast<std::uint32_t>(implementation_->slots.size());
}

void ReferenceBackend::step(std::span<const SequenceStep> steps, std::span<float> logits,
                            std::span<TokenId> best) {
  step_by_sequence(steps, config().vocab_size, logits, best,
                   [this](const SequenceStep& step, std::span<float> out) { feed(step, out); });
}

void ReferenceBackend::feed(const SequenceStep& step, std::span<float> logits) {
  implementation_->slot = step.slot;
  for (std::size_t i = 0; i < step.tokens.size(); ++i) {
    const bool wanted =
        step.which == Logits::All || (step.which == Logits::Last && i + 1 == step.tokens.size());
    implementation_->token(step.tokens[i], wanted);
    if (!wanted) continue;
    std::ranges::transform(implementation_->logits, logits.begin(),
                           [](double x) { return static_cast<float>(x); });
    logits = logits.subspan(implementation_->logits.size());
  }
}

std::span<const double> ReferenceBackend::logits() const {
  return implementation_->logits;
}

void ReferenceBackend::read_state(State& state, std::uint32_t slot) const {
  const Implementation::Sequence& sequence = implementation_->slots[slot];
  const auto copy = [](const Vector& from, std::span<float> to) {
    std::ranges::transform(from, to.begin(), [](double x) { return static_cast<float>(x); });
  };
  for (std::uint32_t layer = 0; layer < config().layers; ++layer) {
    copy(sequence.att_shift[layer], state.att_shift(layer));
    copy(sequence.matrix[layer], state.matrix(layer));
    copy(sequence.ffn_shift[layer], state.ffn_shift(layer));
  }
}

void ReferenceBackend::write_state(const State& state, std::uint32_t slot) {
  Implementation::Sequence& sequence = implementation_->slots[slot];
  for (std::uint32_t layer = 0; layer < config().layers; ++layer) {
    std::ranges::copy(state.att_shift(layer), sequence.att_shift[layer].begin());
    std::ranges::copy(state.matrix(layer), sequence.matrix[layer].begin());
    std::ranges::copy(state.ffn_shift(layer), sequence.ffn_shift[layer].begin());
  }
}

void ReferenceBackend::reset(std::uint32_t slot) {
  Implementation::Sequence& sequence = implementation_->slots[slot];
  const std::size_t width = config().width;
  sequence.att_shift.assign(config().layers, Vector(width));
  sequence.matrix.assign(config().layers, Vector(width * config().head_size));
  sequence.ffn_shift.assign(config().layers, Vector(width));
}

}  // namespace gander
