#include "bench/stage_program.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/stages.h"

namespace gander {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

/// One pass over a chunk. What it measures is written by the calling thread only, which goes
/// through every step to its end.
struct StageProgram::Pass {
  StageProgram* program;
  std::span<const TokenId> tokens;
  SequenceRows sequence;
  std::uint32_t last;  // row
  StageSeconds* seconds;
  std::uint64_t* zeros;  ///< counted where it is not null, which takes time

  void operator()(Worker& worker) const {
    const bool measures = worker.index() == 0;
    const StageContext context = {
        program->weights_, program->kernels_, program->activations_, {&sequence, 1}, worker,
        tokens.size()};
    Clock::time_point before = Clock::now();
    const auto finish = [&](Stage stage) {
      if (!measures) return;
      const Clock::time_point now = Clock::now();
      (*seconds)[stage] += std::chrono::duration<double>(now - before).count();
      before = now;
    };
    embed(context, tokens);
    finish(kEmbed);
    for (std::uint32_t layer = 0; layer < program->weights_.source->config.layers; ++layer) {
      time_mix_in(context, layer);
      finish(kTimeMixIn);
      wkv(context, layer);
      finish(kWkv);
      time_mix_out(context, layer);
      finish(kTimeMixOut);
      ffn_key(context, layer);
      finish(kFfnKey);
      if (zeros != nullptr) {  // a step, so that no thread goes on to the next layer's h
        worker.share(1, [&](std::size_t) { *zeros += count_zeros(context); });
      }
      ffn_value(context, layer);
      finish(kFfnValue);
    }
    head(context, {&last, 1}, program->logits_.data());
    finish(kHead);
  }

  static std::uint64_t count_zeros(const StageContext& context) {
    const std::size_t hidden = context.tokens * context.weights.source->config.ffn_width;
    const float* const h = context.buffers.h.values;
    return static_cast<std::uint64_t>(std::count(h, h + hidden, 0.0F));
  }
};

StageProgram::StageProgram(std::shared_ptr<const Weights> weights, unsigned threads)
    : kernels_(best_kernels()),
      state_(weights->config),
      activations_(weights->config, CpuBackend::kChunk, threads),
      logits_(weights->config.vocab_size),
      pool_(threads) {
  weights_ = prepare_weights(std::move(weights), pool_);
}

StageProgram::Pass StageProgram::pass(std::span<const TokenId> tokens, StageSeconds& seconds,
                                      std::uint64_t* zeros) {
  const auto last = static_cast<std::uint32_t>(tokens.size() - 1);
  return {this, tokens, {&state_, 0, tokens.size()}, last, &seconds, zeros};
}

StageSeconds StageProgram::run(std::span<const TokenId> tokens) {
  StageSeconds seconds{};
  pool_.run(pass(tokens, seconds, nullptr));
  return seconds;
}

double StageProgram::zeros(std::span<const TokenId> tokens) {
  const Config& config = weights_.source->config;
  StageSeconds seconds{};
  std::uint64_t zeros = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    pool_.run(pass(tokens.subspan(i, 1), seconds, &zeros));
  }
  return static_cast<double>(zeros) /
         static_cast<double>(tokens.size() * config.layers * config.ffn_width);
}

double StageProgram::step() {
  static constexpr int kCount = 1000;
  const Clock::time_point begin = Clock::now();
  pool_.run([threads = pool_.size()](Worker& worker) {
    for (int i = 0; i < kCount; ++i) worker.share(threads, [](std::size_t) {});
  });
  return seconds_since(begin) / kCount;
}

double StageProgram::wake() {
  const Clock::time_point begin = Clock::now();
  pool_.run([](Worker&) {});
  return seconds_since(begin);
}

std::array<std::uint64_t, kStageNames.size()> stage_bytes(const Weights& weights) {
  std::array<std::uint64_t, kStageNames.size()> bytes{};
  const Config& config = weights.config;
  bytes[kEmbed] = weights.emb.row_size();
  for (const LayerWeights& layer : weights.layers) {
    const TimeMixWeights& att = layer.att;
    const auto add = [&](Stage stage, std::initializer_list<const Matrix*> matrices) {
      for (const Matrix* matrix : matrices) bytes[stage] += matrix->size();
    };
    // v1 and v2 of layer 0 are empty.
    add(kTimeMixIn, {&att.receptance, &att.key, &att.value, &att.w1, &att.a1, &att.g1});
    add(kWkv, {&att.w2, &att.a2, &att.g2});
    if (att.v1.rows > 0) {
      add(kTimeMixIn, {&att.v1});
      add(kWkv, {&att.v2});
    }
    bytes[kWkv] += std::uint64_t{sizeof(float)} * config.width * config.head_size;
    add(kTimeMixOut, {&att.output});
    add(kFfnKey, {&layer.ffn.key});
    add(kFfnValue, {&layer.ffn.value});
  }
  bytes[kHead] = weights.head.size();
  return bytes;
}

}  // namespace gander
