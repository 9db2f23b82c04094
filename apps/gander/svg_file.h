#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "apps/gander/bar_chart.h"
#include "base/atomic_file.h"
#include "engine/model.h"

namespace gander {

/// The file of --svg, if it is asked for: opened before anything is measured, so that one that
/// cannot be written is told at once.
class SvgFile {
 public:
  explicit SvgFile(const std::string& path);
  void write(const BarChart& chart);

 private:
  std::unique_ptr<AtomicFile> file_;
};

/// What a plot of results says they are of: the model's file name, and the backend.
std::string chart_subtitle(const Model& model, std::string_view backend);

}  // namespace gander
