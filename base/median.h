#pragma once

#include <algorithm>
#include <vector>

namespace gander {

/// The middle of the values, of which there is at least one: the mean of two where they are even.
inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace gander
