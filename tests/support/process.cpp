#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace gander {
namespace {

struct Pipe {
  int read_end = -1, write_end = -1;

  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) fail("cannot create a pipe: {}", std::strerror(errno));
    for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
    read_end = ends[0];
    write_end = ends[1];
  }
};

void close_end(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

// In the child: nothing but what may follow fork() in a process with threads.
[[noreturn]] void execute(char* const* arguments, char* const* environment, int input, int output,
                          int error) {
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(error, STDERR_FILENO);
  ::execve(arguments[0], arguments, environment);
  ::_exit(127);
}

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!changes.contains(text.substr(0, text.find('=')))) entries.push_back(text);
  }
  for (const auto& [name, value] : changes) entries.push_back(fmt::format("{}={}", name, value));
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Process::Process(std::vector<std::string> arguments, ProcessOptions options)
    : pending_input_(std::move(options.input)) {
  ::signal(SIGPIPE, SIG_IGN);  // a program may end before it has read its input
  std::vector<std::string> environment = merged_environment(options.environment);
  const std::vector<char*> argument_pointers = pointers(arguments);
  const std::vector<char*> environment_pointers = pointers(environment);
  if (options.terminal) {
    start_on_terminal(argument_pointers.data(), environment_pointers.data());
  } else {
    int redirected = -1;
    if (!options.output_path.empty()) {
      redirected = ::open(options.output_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      if (redirected < 0) fail("cannot open {}: {}", options.output_path, std::strerror(errno));
    }
    start_on_pipes(argument_pointers.data(), environment_pointers.data(), redirected);
    close_end(redirected);
  }
  ::fcntl(input_, F_SETFL, O_NONBLOCK);
}

void Process::start_on_terminal(char* const* arguments, char* const* environment) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0) {
    fail("cannot open a terminal: {}", std::strerror(errno));
  }
  const std::string name = ::ptsname(terminal);
  child_ = ::fork();
  if (child_ < 0) fail("cannot fork: {}", std::strerror(errno));
  if (child_ == 0) {
    ::setsid();
    const int other_side = ::open(name.c_str(), O_RDWR);
    ::ioctl(other_side, TIOCSCTTY, 0);
    execute(arguments, environment, other_side, other_side, other_side);
  }
  output_ = terminal;
  input_ = ::fcntl(terminal, F_DUPFD_CLOEXEC, 0);
  keep_input_ = true;
}

void Process::start_on_pipes(char* const* arguments, char* const* environment, int redirected) {
  Pipe input;
  Pipe output;
  Pipe error;
  child_ = ::fork();
  if (child_ < 0) fail("cannot fork: {}", std::strerror(errno));
  if (child_ == 0) {
    execute(arguments, environment, input.read_end, redirected >= 0 ? redirected : output.write_end,
            error.write_end);
  }
  close_end(input.read_end);
  close_end(output.write_end);
  close_end(error.write_end);
  input_ = input.write_end;
  output_ = output.read_end;
  error_ = error.read_end;
}

Process::~Process() {
  close_end(input_);
  close_end(output_);
  close_end(error_);
  if (child_ > 0) {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
}

bool Process::exchange() {
  if (input_ >= 0 && pending_input_.empty() && !keep_input_) close_end(input_);
  std::array<pollfd, 3> polled{{{output_, POLLIN, 0},
                                {error_, POLLIN, 0},
                                {pending_input_.empty() ? -1 : input_, POLLOUT, 0}}};
  if (output_ < 0 && error_ < 0) return false;
  if (::poll(polled.data(), polled.size(), 200) < 0 && errno != EINTR) return false;
  std::array<char, 65536> buffer{};
  const auto receive = [&](int& descriptor, std::string& text) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count > 0) text.append(buffer.data(), static_cast<std::size_t>(count));
    // The far side of a terminal that has been closed reads as EIO.
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) close_end(descriptor);
  };
  if (polled[0].revents != 0) receive(output_, result_.out);
  if (polled[1].revents != 0) receive(error_, result_.err);
  if (polled[2].revents != 0) {
    const ssize_t count = ::write(input_, pending_input_.data(), pending_input_.size());
    if (count > 0) pending_input_.erase(0, static_cast<std::size_t>(count));
    if (count < 0 && errno != EAGAIN) {
      pending_input_.clear();
      close_end(input_);
    }
  }
  return true;
}

bool Process::wait_for_output(const std::string& text) {
  keep_input_ = true;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  std::size_t found = 0;
  while ((found = result_.out.find(text, waited_for_)) == std::string::npos) {
    if (output_ < 0 || std::chrono::steady_clock::now() > deadline || !exchange()) return false;
  }
  waited_for_ = found + text.size();
  return true;
}

void Process::send_signal(int signal) {
  ::kill(child_, signal);
}

void Process::type(const std::string& text) {
  pending_input_ += text;
}

ProcessResult Process::finish() {
  keep_input_ = false;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (exchange()) {
    if (std::chrono::steady_clock::now() > deadline) send_signal(SIGKILL);
  }
  int status = 0;
  ::waitpid(child_, &status, 0);
  child_ = -1;
  result_.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result_;
}

ProcessResult run_process(std::vector<std::string> arguments, ProcessOptions options) {
  return Process(std::move(arguments), std::move(options)).finish();
}

}  // namespace gander
