#pragma once

namespace gander {

/// Exit code after Ctrl-C, as shells report it.
inline constexpr int kInterruptedExit = 130;

/// Installs the handler of SIGINT. Until a guard says otherwise Ctrl-C ends the program with
/// kInterruptedExit, leaving the terminal as it was.
void handle_interrupts();

/// While one lives, Ctrl-C is only recorded. They nest; the innermost decides.
class InterruptGuard {
 public:
  enum class Second : unsigned char { Ends, Waits };
  /// `second`: whether another Ctrl-C ends the program at once (a loop that watches requested() may
  /// be slow) or waits as well (a file is being written).
  explicit InterruptGuard(Second second = Second::Ends);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool requested() const;

 private:
  int previous_;
};

}  // namespace gander
