#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace gander {

/// How a program ended, and what it wrote.
struct ProcessResult {
  int code = -1;  ///< exit code; 128 + the signal's number when one ended it
  std::string out, err;
};

struct ProcessOptions {
  std::string input = {};                               ///< what its stdin holds
  std::map<std::string, std::string> environment = {};  ///< on top of the test's own
  std::string output_path = {};                         ///< where stdout goes instead of `out`
  bool terminal = false;  ///< runs on a terminal of its own: `out` holds all that appears there
};

/// A program that runs while the test goes on.
class Process {
 public:
  /// Starts `arguments[0]`. Throws Error when that fails.
  explicit Process(std::vector<std::string> arguments, ProcessOptions options = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// Reads until stdout holds `text` after what the last call waited for, keeping stdin open; false
  /// when it ended or a minute passed.
  bool wait_for_output(const std::string& text);
  void send_signal(int signal);
  /// Adds to the input: what a person types, for a program on a terminal.
  void type(const std::string& text);
  /// Closes stdin, reads to the end and waits; after a minute it kills.
  ProcessResult finish();

 private:
  void start_on_terminal(char* const* arguments, char* const* environment);
  void start_on_pipes(char* const* arguments, char* const* environment, int redirected);
  // Moves what can be moved through the pipes; false once both outputs have ended.
  bool exchange();

  pid_t child_ = -1;
  int input_ = -1, output_ = -1, error_ = -1;
  std::string pending_input_;
  bool keep_input_ = false;
  std::size_t waited_for_ = 0;  // up to where wait_for_output has found its texts
  ProcessResult result_;
};

/// Runs a program to its end.
ProcessResult run_process(std::vector<std::string> arguments, ProcessOptions options = {});

}  // namespace gander
