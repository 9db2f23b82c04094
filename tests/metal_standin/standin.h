#pragma once

#include <cstdint>
#include <map>
#include <string>

// What tests may ask of the stand-in for Metal: which machine it plays, what fails, what happened.
// Set before the objects concerned are made; nothing may be running.
namespace gander::standin {

/// The machine. From the environment when the program starts, for the command line:
/// GANDER_STANDIN_MACOS=14, GANDER_STANDIN_FAIL=device|compile|pipeline|memory|timeout|page-fault.
struct Settings {
  int macos_version = 15;  ///< 14: no residency sets, Metal 3.1
  bool has_device = true;
  bool apple_silicon = true;  ///< unified memory, families Apple7 and later
  std::uint64_t working_set_bytes = std::uint64_t{16} << 30;
  std::uint64_t max_buffer_bytes = std::uint64_t{9} << 30;
  /// Threads of a group that pipelines of a kernel allow, where that is not 1,024.
  std::map<std::string, unsigned> max_threads;
  bool capture_enabled = false;  ///< as by MTL_CAPTURE_ENABLED=1
  unsigned seed = 1;             ///< of the order in which dispatches run
};

enum class CommandFailure { None, Timeout, PageFault, OutOfMemory };

/// What goes wrong. Errors look like Metal's own.
struct Failures {
  bool compile = false;                         ///< newLibraryWithSource:
  std::string pipeline;                         ///< the kernel for which there is no pipeline
  std::uint64_t allocation_after = UINT64_MAX;  ///< bytes after which no buffer is made any more
  CommandFailure command = CommandFailure::None;
  std::uint64_t command_after = 0;  ///< command buffers that run before the one that fails
  std::string command_at;           ///< the kernel at which it fails; empty: its first dispatch
  bool archive = false;             ///< the binary archive can neither be read nor written
};

Settings& settings();
Failures& failures();

/// Since the program began, or reset_counters().
struct Counters {
  std::uint64_t libraries = 0;  ///< compiled from source
  std::uint64_t pipelines_compiled = 0;
  std::uint64_t pipelines_from_archive = 0;
  std::uint64_t command_buffers = 0;  ///< committed
  std::uint64_t encoders = 0;
  std::uint64_t dispatches = 0;  ///< encoded
  std::uint64_t barriers = 0;
  std::uint64_t waits = 0;              ///< waitUntilCompleted that found work unfinished
  std::uint64_t reordered_batches = 0;  ///< several dispatches without a barrier, run both ways
};
Counters counters();
void reset_counters();

/// Settings and failures as at the start, counters zero.
void reset();

/// While true, command buffers are committed but none starts: what a slow device looks like.
void hold_execution(bool hold);

/// Objects and blocks that live, in words: "2 MTLBuffer, 1 MTLDevice"; empty when none do.
std::string leaks();

/// Of the buffers in residency sets whose residency is requested.
std::uint64_t resident_bytes();

}  // namespace gander::standin
