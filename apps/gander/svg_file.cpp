#include "apps/gander/svg_file.h"

#include <fmt/format.h>

#include <span>

namespace gander {

SvgFile::SvgFile(const std::string& path) {
  if (!path.empty()) file_ = std::make_unique<AtomicFile>(path);
}

void SvgFile::write(const BarChart& chart) {
  if (!file_) return;
  const std::string svg = bar_chart_svg(chart);
  file_->write(std::as_bytes(std::span(svg)));
  file_->commit();
}

std::string chart_subtitle(const Model& model, std::string_view backend) {
  return fmt::format("{} on {}", model.path.substr(model.path.rfind('/') + 1), backend);
}

}  // namespace gander
