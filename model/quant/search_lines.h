#pragma once

#include <cstdint>
#include <initializer_list>

#include "base/half.h"
#include "model/quant/lanes.h"

// The inner search of search.cpp, for eight groups of N weights at a time, a lane each.
//
// A group's values lie on a line, value = scale q + offset, where q is an integer. For given q the
// best line is a weighted least-squares fit; for a given line the best q is the nearest. Doing both
// in turn (Lloyd's algorithm) ends in a local minimum, so it starts from many lines.
namespace gander {
namespace {

// As binary16, neither infinite nor, unless the value is, zero.
inline std::uint16_t scale_to_half(float value) {
  const std::uint16_t half = float_to_half(value);
  const std::uint16_t sign = half & 0x8000U;
  if ((half & 0x7fffU) > 0x7bffU) return sign | 0x7bffU;
  if ((half & 0x7fffU) == 0 && value != 0) return sign | 1U;
  return half;
}

// Scales as a file can keep them.
inline Lanes half_lanes(const Lanes& scale) {
  float lanes[kLanes];
  store(lanes, scale);
  for (float& lane : lanes) lane = half_to_float(scale_to_half(lane));
  return load(lanes);
}

template <int N>
struct Groups {
  Lanes x[N], w[N];
  Lanes sum_w, sum_wx;
};

// Group g, weight j is x[N g + j].
template <int N>
void transpose(const float* x, const float* w, Groups<N>& groups) {
  alignas(32) float row[2][kLanes];
  groups.sum_w = groups.sum_wx = fill(0);
  for (int j = 0; j < N; ++j) {
    for (int g = 0; g < kLanes; ++g) {
      row[0][g] = x[N * g + j];
      row[1][g] = w[N * g + j];
    }
    groups.x[j] = load(row[0]);
    groups.w[j] = load(row[1]);
    groups.sum_w += groups.w[j];
    groups.sum_wx += groups.w[j] * groups.x[j];
  }
}

struct Line {
  Lanes scale, offset;
};

struct Range {
  float low, high;  // of q
};

inline Line select_less(const Lanes& a, const Lanes& b, const Line& yes, const Line& no) {
  return {where_less(a, b, yes.scale, no.scale), where_less(a, b, yes.offset, no.offset)};
}

// The q of weight x.
inline Lanes level(const Lanes& x, const Lanes& inverse_scale, const Lanes& offset,
                   const Range& range) {
  const Lanes q = (x - offset) * inverse_scale;
  return nearest(smaller(larger(q, fill(range.low)), fill(range.high)));
}

// sum_j w_j (x_j - value_j)^2 of each group.
template <int N>
Lanes error_of(const Groups<N>& groups, const Line& line, const Range& range) {
  const Lanes inverse_scale = inverse(line.scale);
  Lanes sum = fill(0);
  for (int j = 0; j < N; ++j) {
    const Lanes q = level(groups.x[j], inverse_scale, line.offset, range);
    const Lanes e = (groups.x[j] - line.offset) - line.scale * q;
    sum += groups.w[j] * e * e;
  }
  return sum;
}

struct Moments {
  Lanes q, qq, xq;  // sums of w q, w q^2, w x q
};

template <int N>
Moments moments_of(const Groups<N>& groups, const Line& line, const Range& range) {
  const Lanes inverse_scale = inverse(line.scale);
  Moments m = {fill(0), fill(0), fill(0)};
  for (int j = 0; j < N; ++j) {
    const Lanes q = level(groups.x[j], inverse_scale, line.offset, range);
    const Lanes wq = groups.w[j] * q;
    m.q += wq;
    m.qq += wq * q;
    m.xq += wq * groups.x[j];
  }
  return m;
}

// The least-squares line for the levels of `line`. The formats know no positive offset; where the
// best one is positive, or the levels are all the same, the line goes through zero.
template <int N>
Line refit_line(const Groups<N>& groups, const Line& line, const Range& range) {
  const Moments m = moments_of(groups, line, range);
  const Lanes inverse_det = inverse(groups.sum_w * m.qq - m.q * m.q);
  const Lanes offset = (m.qq * groups.sum_wx - m.q * m.xq) * inverse_det;
  const Lanes scale = (groups.sum_w * m.xq - groups.sum_wx * m.q) * inverse_det;
  const Line through_zero = {m.xq * inverse(m.qq), fill(0)};
  return select_less(offset, fill(0), {larger(scale, fill(0)), offset}, through_zero);
}

// The same for lines through zero: their scale.
template <int N>
Lanes refit_scale(const Groups<N>& groups, const Line& line, const Range& range) {
  const Moments m = moments_of(groups, line, range);
  return m.xq * inverse(m.qq);
}

// The best lines found so far.
struct Best {
  Line line;
  Lanes error;

  void offer(const Line& other, const Lanes& other_error) {
    line = select_less(other_error, error, other, line);
    error = where_less(other_error, error, other_error, error);
  }
};

constexpr int kPolish = 2;  // refits of the best line

// From the smallest weight, or 0, to the largest: what rounding to nearest would take.
template <int N>
Line line_of_extremes(const Groups<N>& groups, const Range& range) {
  Lanes low = fill(0);
  Lanes high = groups.x[0];
  for (int j = 0; j < N; ++j) {
    low = smaller(low, groups.x[j]);
    high = larger(high, groups.x[j]);
  }
  return {(high - low) / fill(range.high), low};
}

template <int N>
Best best_lines(const Groups<N>& groups, const Range& range) {
  const Line extremes = line_of_extremes(groups, range);
  Best best = {extremes, error_of(groups, extremes, range)};
  // With fewer steps than there are levels the line reaches beyond the outermost weights; with
  // more it leaves them clipped.
  for (int quarters = -10; quarters <= 2; ++quarters) {
    const float steps = range.high + 0.25F * static_cast<float>(quarters);
    const Line start = {extremes.scale * fill(range.high / steps), extremes.offset};
    const Line line = refit_line(groups, start, range);
    best.offer(line, error_of(groups, line, range));
  }
  for (int round = 0; round < kPolish; ++round) {
    const Line line = refit_line(groups, best.line, range);
    best.offer(line, error_of(groups, line, range));
  }
  return best;
}

// The weight of largest magnitude, with its sign.
template <int N>
Lanes peak_of(const Groups<N>& groups) {
  Lanes low = fill(0);
  Lanes high = fill(0);
  for (int j = 0; j < N; ++j) {
    low = smaller(low, groups.x[j]);
    high = larger(high, groups.x[j]);
  }
  return where_less(high, magnitude(low), low, high);
}

// Lines through zero. The scale may be negative, so that the peak can be at either end of q; it is
// always one that `storable` returns.
template <int N, typename Storable>
Best best_scales(const Groups<N>& groups, const Range& range, Storable storable) {
  const Lanes peak = peak_of(groups);
  Best best = {{storable(peak / fill(range.low)), fill(0)}, {}};
  best.error = error_of(groups, best.line, range);
  const auto offer_refit = [&](const Line& start) {
    const Line line = {storable(refit_scale(groups, start, range)), fill(0)};
    best.offer(line, error_of(groups, line, range));
  };
  // The peak at its end of q, a little inside, or clipped.
  for (int step = -10; step <= 2; ++step) {
    for (const float end : {range.low, range.high}) {
      const float level_of_peak = end * (1 + 0.02F * static_cast<float>(step));
      offer_refit({peak * fill(1 / level_of_peak), fill(0)});
    }
  }
  for (int round = 0; round < kPolish; ++round) offer_refit(best.line);
  return best;
}

}  // namespace
}  // namespace gander
