#pragma once

#include <optional>
#include <string>
#include <vector>

namespace gander {

/// One horizontal bar: `value`, and after it in a lighter colour `rest`.
struct Bar {
  std::string label;
  double value = 0;
  double rest = 0;
  std::string note = {};      ///< at the end of the bar
  bool begins_group = false;  ///< a gap before it
};

struct BarChart {
  std::string title, subtitle;
  std::string axis;                   ///< what the numbers along the bottom are
  std::string value_name, rest_name;  ///< for the legend; none when `rest_name` is empty
  std::vector<Bar> bars;              ///< at least one
  std::optional<double> limit = {};   ///< a line across all bars
  std::string limit_name = {};
};

/// The chart as an SVG document: colours that stand out on white and on black, no background.
std::string bar_chart_svg(const BarChart& chart);

}  // namespace gander
