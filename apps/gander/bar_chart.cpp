#include "apps/gander/bar_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace gander {

namespace {

// Grey text has a contrast of 4.5 with white and with black.
constexpr std::string_view kStyle =
    "text{font:13px system-ui,sans-serif;fill:#767676}"
    ".title{font-size:16px;font-weight:600}"
    ".end{text-anchor:end}.middle{text-anchor:middle}"
    ".grid{stroke:#767676;stroke-opacity:.25}"
    ".value{fill:#3b82c4}.rest{fill:#e0913a}"
    ".limit{stroke:#c2417c;stroke-width:2;stroke-dasharray:6 4}.limit-name{fill:#c2417c}";

constexpr double kWidth = 900, kMargin = 16, kTop = 62;
constexpr double kBar = 20, kGap = 8, kGroupGap = 14;
constexpr double kLetter = 7.2;  // mean width of a letter, rather too much

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

double text_width(std::string_view text) {
  const auto letters = std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; });
  return kLetter * static_cast<double>(letters);
}

// The step of 1, 2 or 5 times a power of ten that gives at most six marks.
double tick_step(double most) {
  const double power = std::pow(10, std::floor(std::log10(most / 6)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (most / (factor * power) <= 6) return factor * power;
  }
  return 10 * power;
}

std::string text(double x, double y, std::string_view kind, std::string_view words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", x, y, kind,
                     escaped(words));
}

std::string rectangle(double x, double y, double width, double height, std::string_view kind) {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"{}\"/>\n", x, y,
      width, height, kind);
}

std::string vertical(double x, double top, double bottom, std::string_view kind) {
  return fmt::format(
      "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" class=\"{3}\"/>\n", x, top,
      bottom, kind);
}

// Coloured squares with what they mean, right of the subtitle's line.
std::string legend(const BarChart& chart) {
  const double rest = kWidth - kMargin - text_width(chart.rest_name);
  const double value = rest - 36 - text_width(chart.value_name);
  const double y = 24;
  return rectangle(value - 18, y - 11, 12, 12, "value") + text(value, y, "", chart.value_name) +
         rectangle(rest - 18, y - 11, 12, 12, "rest") + text(rest, y, "", chart.rest_name);
}

}  // namespace

std::string bar_chart_svg(const BarChart& chart) {
  double most = chart.limit.value_or(0), labels = 0, notes = 0, height = 0;
  for (const Bar& bar : chart.bars) {
    most = std::max(most, bar.value + bar.rest);
    labels = std::max(labels, text_width(bar.label));
    notes = std::max(notes, text_width(bar.note));
    height += kBar + kGap + (bar.begins_group ? kGroupGap : 0);
  }
  if (!(most > 0)) most = 1;
  const double left = kMargin + labels + 10;
  const double scale = (kWidth - kMargin - notes - 8 - left) / most;
  const double bottom = kTop + height;

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" role=\"img\">\n<title>{2}</title>\n<style>{3}</style>\n",
      kWidth, std::ceil(bottom + 52), escaped(chart.title), kStyle);
  svg += text(kMargin, 24, "title", chart.title) + text(kMargin, 44, "", chart.subtitle);
  if (!chart.rest_name.empty()) svg += legend(chart);

  const double step = tick_step(most);
  for (int i = 0; i <= static_cast<int>(most / step * 1.0001); ++i) {
    const double tick = step * i;
    const double x = left + tick * scale;
    svg += vertical(x, kTop, bottom, "grid");
    svg += text(x, bottom + 18, "middle", fmt::format("{:.6g}", tick));
  }
  svg += text(left, bottom + 38, "", chart.axis);

  double y = kTop;
  for (const Bar& bar : chart.bars) {
    if (bar.begins_group) y += kGroupGap;
    y += kGap / 2;
    const double baseline = y + kBar / 2 + 4.5;
    const double value = bar.value * scale, rest = bar.rest * scale;
    svg += text(left - 10, baseline, "end", bar.label);
    svg += rectangle(left, y, value, kBar, "value");
    if (bar.rest > 0) svg += rectangle(left + value, y, rest, kBar, "rest");
    svg += text(left + value + rest + 8, baseline, "", bar.note);
    y += kBar + kGap / 2;
  }
  if (chart.limit) {
    const double x = left + *chart.limit * scale;
    svg += vertical(x, kTop - 4, bottom + 4, "limit");
    svg += text(x, bottom + 38, "end limit-name", chart.limit_name);
  }
  return svg + "</svg>\n";
}

}  // namespace gander
