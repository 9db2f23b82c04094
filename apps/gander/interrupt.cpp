#include "apps/gander/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "apps/gander/terminal.h"

namespace gander {
namespace {

enum class OnInterrupt : int { Exit, RecordThenExit, Record };

std::atomic<OnInterrupt> on_interrupt{OnInterrupt::Exit};
std::atomic<bool> requested_flag{false};
// What leaves the terminal clean: known before, since a handler may only call write() and _exit().
const char* farewell = "";
std::size_t farewell_size = 0;

static_assert(std::atomic<OnInterrupt>::is_always_lock_free);

void on_signal(int /*signal*/) {
  const OnInterrupt mode = on_interrupt.load();
  const bool again = requested_flag.exchange(true);
  if (mode == OnInterrupt::Record || (mode == OnInterrupt::RecordThenExit && !again)) return;
  if (::write(STDERR_FILENO, farewell, farewell_size) < 0) ::_exit(kInterruptedExit);
  ::_exit(kInterruptedExit);
}

}  // namespace

void handle_interrupts() {
  if (error_is_terminal()) {
    farewell = style_end(Stream::Error).empty() ? "\r\n" : "\x1b[0m\r\n\x1b[K";
    farewell_size = std::strlen(farewell);
  }
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
}

InterruptGuard::InterruptGuard(Second second) : previous_(static_cast<int>(on_interrupt.load())) {
  requested_flag = false;
  on_interrupt = second == Second::Ends ? OnInterrupt::RecordThenExit : OnInterrupt::Record;
}

InterruptGuard::~InterruptGuard() {
  on_interrupt = static_cast<OnInterrupt>(previous_);
}

bool InterruptGuard::requested() const {
  return requested_flag;
}

}  // namespace gander
