#include "tests/metal_standin/objc_runtime.h"
#include "tests/metal_standin/standin.h"

// Linked into the command line over the stand-in: when the program ends, nothing of Metal may be
// left.
namespace gander::standin {
namespace {

struct ExitCheck {
  ~ExitCheck() {
    if (const std::string left = leaks(); !left.empty()) misuse("not released at exit: {}", left);
  }
};
const ExitCheck exit_check;

}  // namespace
}  // namespace gander::standin
