#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "engine/cache/state_cache.h"
#include "engine/serving/engine.h"

namespace gander::server {

/// Seconds in buckets, each of which counts what is at most so long.
class Histogram {
 public:
  void add(double seconds);
  /// Prometheus' text: _bucket, _sum and _count.
  std::string text(const std::string& name, const std::string& help) const;

 private:
  static constexpr std::array<double, 13> kLimits = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                     0.25,  0.5,    1,     2.5,  10,    60};
  std::array<std::uint64_t, kLimits.size() + 1> counts_ = {};
  double sum_ = 0;
};

/// What the server has done. Used by the thread that serves HTTP only.
struct Metrics {
  std::map<std::pair<std::string, unsigned>, std::uint64_t> responses;  ///< by route and status
  Histogram waiting;           ///< from the request to a slot
  Histogram first_token;       ///< from the request to the first token
  Histogram between_tokens;    ///< the mean of each text
  std::uint64_t gone = 0;      ///< clients that left before their response was over
  std::uint64_t too_slow = 0;  ///< clients that read slower than was generated

  void add(const Usage& usage);
  /// Prometheus' text format. `cache` may be null.
  std::string text(const Engine& engine, const StateCache* cache, std::size_t connections) const;
};

}  // namespace gander::server
