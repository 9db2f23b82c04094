#include "tests/metal_standin/standin.h"

#include "tests/metal_standin/block.h"
#include "tests/metal_standin/counting.h"
#include "tests/metal_standin/scheduler.h"

#include <cstdlib>
#include <mutex>

namespace gander::standin {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Settings initial_settings() {
  Settings initial;
  const std::string version = environment("GANDER_STANDIN_MACOS");
  if (!version.empty()) initial.macos_version = std::atoi(version.c_str());
  initial.has_device = environment("GANDER_STANDIN_FAIL") != "device";
  initial.capture_enabled = environment("MTL_CAPTURE_ENABLED") == "1";
  return initial;
}

Failures initial_failures() {
  Failures initial;
  const std::string what = environment("GANDER_STANDIN_FAIL");
  if (what == "compile") initial.compile = true;
  if (what == "pipeline") initial.pipeline = std::string("*");
  if (what == "memory") initial.allocation_after = 0;
  if (what == "timeout") initial.command = CommandFailure::Timeout;
  if (what == "page-fault") initial.command = CommandFailure::PageFault;
  return initial;
}

std::mutex counting_mutex;
Counters counted;

}  // namespace

Settings& settings() {
  static Settings value = initial_settings();
  return value;
}

Failures& failures() {
  static Failures value = initial_failures();
  return value;
}

void count(std::uint64_t Counters::*member, std::uint64_t by) {
  std::lock_guard lock(counting_mutex);
  counted.*member += by;
}

Counters counters() {
  std::lock_guard lock(counting_mutex);
  return counted;
}

void reset_counters() {
  std::lock_guard lock(counting_mutex);
  counted = {};
}

void reset() {
  settings() = initial_settings();
  failures() = initial_failures();
  reset_counters();
  hold_execution(false);
}

std::string leaks() {
  Scheduler::shared().wait_until_idle();
  std::string list;
  auto add = [&list](int number, const std::string& what) {
    if (number > 0) list += fmt::format("{}{} {}", list.empty() ? "" : ", ", number, what);
  };
  for (const auto& [name, number] : live_objects()) add(number, name);
  add(live_blocks(), "blocks");
  return list;
}

}  // namespace gander::standin
