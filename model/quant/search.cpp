#include "model/quant/search.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "model/quant/search_lines.h"

namespace gander {

namespace {

constexpr int kRounds = 3;       // of codes and refits of a block's d and dmin
constexpr float kWorst = 3e38F;  // larger than any error

inline float sum_of(const Lanes& a) {
  float lanes[kLanes];
  store(lanes, a);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

inline float largest_of(const Lanes& a) {
  float lanes[kLanes];
  store(lanes, a);
  float largest = lanes[0];
  for (const float lane : lanes) largest = lane > largest ? lane : largest;
  return largest;
}

// The 6-bit codes of eight groups under given d and dmin.
struct Codes {
  Lanes scale, minimum, error;
};

struct BlockScales {
  std::uint16_t d, dmin;
};

inline Line line_of(const Codes& codes, const BlockScales& scales) {
  return {fill(half_to_float(scales.d)) * codes.scale,
          fill(0) - fill(half_to_float(scales.dmin)) * codes.minimum};
}

// The scales with which the largest scale of a line gets the code `largest_code`, the largest
// minimum 63.
inline BlockScales scales_for(const Line& line, float largest_code) {
  return {scale_to_half(largest_of(line.scale) / largest_code),
          scale_to_half(largest_of(fill(0) - line.offset) / 63)};
}

inline Lanes code(const Lanes& value) {
  return smaller(larger(nearest(smaller(value, fill(1000))), fill(0)), fill(63));
}

// The codes nearest to a line.
inline Codes nearest_codes(const Groups<32>& groups, const Line& line, const BlockScales& scales,
                           const Range& range) {
  Codes codes = {code(line.scale * inverse(fill(half_to_float(scales.d)))),
                 code((fill(0) - line.offset) * inverse(fill(half_to_float(scales.dmin)))),
                 {}};
  codes.error = error_of(groups, line_of(codes, scales), range);
  return codes;
}

// Codes near the ideal lines, by the error they lead to: some scales, and for each the minimums
// around the one that suits it best.
inline Codes choose_codes(const Groups<32>& groups, const Line& ideal, const BlockScales& scales,
                          const Range& range) {
  const Lanes d = fill(half_to_float(scales.d));
  const Lanes inverse_dmin = inverse(fill(half_to_float(scales.dmin)));
  const Lanes inverse_w = inverse(groups.sum_w);
  const Lanes centre = code(ideal.scale * inverse(d));
  Codes best = {fill(0), fill(0), fill(kWorst)};
  for (int near = -1; near <= 1; ++near) {
    const Lanes scale = code(centre + fill(static_cast<float>(near)));
    const Line line = {d * scale, ideal.offset};
    const Moments m = moments_of(groups, line, range);
    const Lanes minimum = (line.scale * m.q - groups.sum_wx) * inverse_w * inverse_dmin;
    for (int step = -1; step <= 1; ++step) {
      Codes codes = {scale, code(code(minimum) + fill(static_cast<float>(step))), {}};
      codes.error = error_of(groups, line_of(codes, scales), range);
      best.scale = where_less(codes.error, best.error, codes.scale, best.scale);
      best.minimum = where_less(codes.error, best.error, codes.minimum, best.minimum);
      best.error = where_less(codes.error, best.error, codes.error, best.error);
    }
  }
  return best;
}

// d and dmin by least squares, with the codes and levels as they are: x = d u - dmin v with
// u = scale q and v = minimum.
inline BlockScales refit_block(const Groups<32>& groups, const Codes& codes, BlockScales scales,
                               const Range& range) {
  const Moments m = moments_of(groups, line_of(codes, scales), range);
  const double uu = sum_of(codes.scale * codes.scale * m.qq);
  const double uv = sum_of(codes.scale * codes.minimum * m.q);
  const double vv = sum_of(codes.minimum * codes.minimum * groups.sum_w);
  const double xu = sum_of(codes.scale * m.xq);
  const double xv = sum_of(codes.minimum * groups.sum_wx);
  const double det = uu * vv - uv * uv;
  if (det > 1e-6 * uu * vv) {
    const double d = (xu * vv - xv * uv) / det;
    const double dmin = (xu * uv - xv * uu) / det;
    if (d > 0 && dmin > 0) {
      return {scale_to_half(static_cast<float>(d)), scale_to_half(static_cast<float>(dmin))};
    }
  }
  if (vv == 0 && uu > 0 && xu > 0) {
    return {scale_to_half(static_cast<float>(xu / uu)), scales.dmin};
  }
  return scales;
}

template <typename Code>
void store_codes(const Lanes& codes, Code* out) {
  float lanes[kLanes];
  store(lanes, codes);
  for (int g = 0; g < kLanes; ++g) out[g] = static_cast<Code>(lanes[g]);
}

template <int N, typename Level>
void store_level_lanes(const Groups<N>& groups, const Line& line, const Range& range, int bias,
                       Level* levels) {
  const Lanes inverse_scale = inverse(line.scale);
  for (int j = 0; j < N; ++j) {
    float q[kLanes];
    store(q, level(groups.x[j], inverse_scale, line.offset, range));
    for (int g = 0; g < kLanes; ++g) {
      levels[N * g + j] = static_cast<Level>(static_cast<int>(q[g]) + bias);
    }
  }
}

}  // namespace

void search_affine(const float* x, const float* w, int top, AffineBlock& block) {
  const Range range = {0, static_cast<float>(top)};
  Groups<32> groups;
  transpose(x, w, groups);
  Codes best = {};
  BlockScales scales = {};
  float least = kWorst;
  const auto offer = [&](const Codes& codes, BlockScales of) {
    const float error = sum_of(codes.error);
    if (error < least) {
      least = error;
      best = codes;
      scales = of;
    }
    return error;
  };

  const Line extremes = line_of_extremes(groups, range);
  const BlockScales simple = scales_for(extremes, 63);
  offer(nearest_codes(groups, extremes, simple, range), simple);

  const Line ideal = best_lines(groups, range).line;
  for (const float largest_code : {63.0F, 60.0F}) {
    BlockScales trial = scales_for(ideal, largest_code);
    float previous = kWorst;
    for (int round = 0; round < kRounds; ++round) {
      const Codes codes = choose_codes(groups, ideal, trial, range);
      const float error = offer(codes, trial);
      if (!(error < previous)) break;
      previous = error;
      trial = refit_block(groups, codes, trial, range);
    }
  }
  block.d = scales.d;
  block.dmin = scales.dmin;
  store_codes(best.scale, block.scales);
  store_codes(best.minimum, block.minimums);
  store_level_lanes(groups, line_of(best, scales), range, 0, block.levels);
}

namespace {

// The one of largest magnitude.
inline float signed_peak(const Lanes (&values)[2]) {
  const float low = -largest_of(larger(fill(0) - values[0], fill(0) - values[1]));
  const float high = largest_of(larger(values[0], values[1]));
  return high < -low ? low : high;
}

inline Lanes signed_code(const Lanes& value) {
  return smaller(larger(nearest(smaller(larger(value, fill(-1000)), fill(1000))), fill(-128)),
                 fill(127));
}

// Codes near some scales of Q6_K, up to `reach` steps away, by the error they lead to.
inline Codes choose_signed_codes(const Groups<16>& groups, const Lanes& ideal,
                                 const BlockScales& scales, int reach, const Range& range) {
  const Lanes centre = signed_code(ideal * inverse(fill(half_to_float(scales.d))));
  Codes best = {fill(0), fill(0), fill(kWorst)};
  for (int near = -reach; near <= reach; ++near) {
    Codes codes = {signed_code(centre + fill(static_cast<float>(near))), fill(0), {}};
    codes.error = error_of(groups, line_of(codes, scales), range);
    best.scale = where_less(codes.error, best.error, codes.scale, best.scale);
    best.error = where_less(codes.error, best.error, codes.error, best.error);
  }
  return best;
}

}  // namespace

void search_scaled(const float* x, const float* w, ScaledBlock& block) {
  const Range range = {-32, 31};
  Groups<16> groups[2];
  Lanes simple[2];  // the scales that rounding to nearest would take
  Lanes ideal[2];
  for (int half = 0; half < 2; ++half) {
    transpose(x + 128 * half, w + 128 * half, groups[half]);
    simple[half] = peak_of(groups[half]) / fill(range.low);
    ideal[half] =
        best_scales(groups[half], range, [](const Lanes& scale) { return scale; }).line.scale;
  }
  Codes best[2] = {};
  block.d = 0;
  float least = kWorst;
  // Whether codes near these scales are better than what was found so far; d's refit is in `trial`.
  const auto improve = [&](const Lanes(&scales)[2], int reach, BlockScales& trial) {
    Codes codes[2];
    double uu = 0;  // x = d u with u = scale q: d = sum w x u / sum w u^2
    double xu = 0;
    for (int half = 0; half < 2; ++half) {
      codes[half] = choose_signed_codes(groups[half], scales[half], trial, reach, range);
      const Moments m = moments_of(groups[half], line_of(codes[half], trial), range);
      uu += sum_of(codes[half].scale * codes[half].scale * m.qq);
      xu += sum_of(codes[half].scale * m.xq);
    }
    const float error = sum_of(codes[0].error + codes[1].error);
    const bool better = error < least;
    if (better) {
      least = error;
      block.d = trial.d;
      std::copy_n(codes, 2, best);
    }
    if (uu > 0) trial.d = scale_to_half(static_cast<float>(xu / uu));
    return better && uu > 0;
  };

  BlockScales trial = {scale_to_half(signed_peak(simple) / -128), 0};
  improve(simple, 0, trial);
  trial.d = scale_to_half(std::fabs(signed_peak(ideal)) / 127);
  for (int round = 0; round < kRounds && improve(ideal, 1, trial); ++round) continue;

  for (int half = 0; half < 2; ++half) {
    store_codes(best[half].scale, block.scales + 8 * half);
    store_level_lanes(groups[half], line_of(best[half], {block.d, 0}), range, 32,
                      block.levels + 128 * half);
  }
}

void search_plain(const float* x, const float* w, int low, int high, PlainBlocks& blocks) {
  const Range range = {static_cast<float>(low), static_cast<float>(high)};
  Groups<32> groups;
  transpose(x, w, groups);
  const Best best = best_scales(groups, range, half_lanes);
  float scales[kLanes];
  store(scales, best.line.scale);
  for (int g = 0; g < kLanes; ++g) blocks.d[g] = float_to_half(scales[g]);
  store_level_lanes(groups, best.line, range, 0, blocks.levels);
}

void error_weights(const float* x, const float* importance, float* w) {
  Lanes squares = fill(0);
  for (int j = 0; j < kSearchWeights; j += kLanes) squares += load(x + j) * load(x + j);
  const float mean = sum_of(squares) / kSearchWeights;
  for (int j = 0; j < kSearchWeights; ++j) w[j] = importance[j] * std::sqrt(mean + x[j] * x[j]);
}

}  // namespace gander
