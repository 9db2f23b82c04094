#include "tests/metal_standin/memory_fault.h"

#include <unistd.h>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace gander::standin {
namespace {

thread_local std::string_view running_kernel;
// Kernels run on small stacks of their own.
thread_local char signal_stack[16 << 10];

void print(std::string_view text) {
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) std::abort();
}

void report(int) {
  if (running_kernel.empty()) {
    print("Metal stand-in: a segmentation fault outside of the kernels\n");
  } else {
    print("Metal stand-in: kernel ");
    print(running_kernel);
    print(" read or wrote outside of its buffers\n");
  }
  std::abort();
}

void install() {
  struct sigaction action = {};
  action.sa_handler = report;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace

FaultScope::FaultScope(std::string_view kernel) {
  static const bool installed = (install(), true);
  static_cast<void>(installed);
  thread_local const bool has_stack = [] {
    stack_t stack = {};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof(signal_stack);
    return sigaltstack(&stack, nullptr) == 0;
  }();
  static_cast<void>(has_stack);
  running_kernel = kernel;
}

FaultScope::~FaultScope() {
  running_kernel = {};
}

}  // namespace gander::standin
