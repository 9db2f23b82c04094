#include "backend/gpu/emulated/machine.h"

#include "backend/gpu/emulated/fiber.h"
#include "backend/gpu/emulated/gpu_thread.h"
#include "base/error.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace gander::msl {

constinit thread_local Running running;

namespace {

std::unordered_map<std::string_view, Kernel>& library() {
  static std::unordered_map<std::string_view, Kernel> kernels;
  return kernels;
}

// Memory of a thread group, exactly as large as asked for, so that an address sanitizer sees what
// goes past it.
class GroupMemory {
 public:
  explicit GroupMemory(std::uint32_t bytes)
      : bytes_(bytes), memory_(static_cast<std::byte*>(::operator new(bytes, kAlignment))) {
    poison();
  }
  // As a GPU leaves it: nobody clears it. All ones are a NaN.
  void poison() { std::memset(memory_.get(), 0xff, bytes_); }
  std::byte* get() const { return memory_.get(); }
  std::uint32_t bytes() const { return bytes_; }

 private:
  static constexpr std::align_val_t kAlignment{16};
  struct Delete {
    void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
  };
  std::uint32_t bytes_;
  std::unique_ptr<std::byte, Delete> memory_;
};

struct GroupVariable {
  const void* key;
  GroupMemory memory;
  std::uint64_t generation;  // of the group that used it last
};

enum class State : std::uint8_t { Runs, WaitsForLanes, WaitsForGroup, Done };

[[noreturn]] void run_threads_of_machine();

struct GpuThread {
  explicit GpuThread(std::uint32_t index) : fiber(run_threads_of_machine, index) {}

  Fiber fiber;
  State state = State::Done;
  Site site;
};

/// One thread group at a time, on fibers that are kept from group to group.
class Machine {
 public:
  void run(const Launch& launch);

  void wait(State state, Site site, bool orders_memory);
  void* group_variable(const void* key, std::uint32_t bytes);
  [[noreturn]] void run_threads();

 private:
  void prepare(const Launch& launch);
  void run_group(const Launch& launch);
  void hire(std::uint32_t count);
  GpuThread* next();
  bool lanes_have_met();
  bool group_has_met();
  void go_on(GpuThread* next);
  std::uint32_t lane_at(std::uint32_t turn) const { return simd_at_ * kLanes + lanes_[turn]; }
  [[noreturn]] void stop(const char* what, const GpuThread& one, const GpuThread& other);
  std::string describe(const GpuThread& thread) const;

  Fiber caller_;
  std::vector<GpuThread> threads_;
  std::vector<SimdExchange> simds_;
  std::vector<GroupVariable> variables_;
  const Launch* launch_ = nullptr;
  std::uint32_t count_ = 0;           // threads of a group
  std::uint32_t simd_turn_ = 0;       // which SIMD group of the order runs,
  std::uint32_t simd_at_ = 0;         // its index,
  std::uint32_t lane_turn_ = 0;       // and which of its lanes
  std::uint32_t lanes_[kLanes] = {};  // their order
  std::uint64_t generation_ = 0;      // counts groups
  std::string error_;
};

thread_local Machine machine;

std::uint32_t volume(const std::array<std::uint32_t, 3>& of) {
  return of[0] * of[1] * of[2];
}

[[noreturn]] void run_threads_of_machine() {
  machine.run_threads();
}

void Machine::run_threads() {
  for (;;) {
    Fiber::acquire(this);
    launch_->kernel->run();
    wait(State::Done, {}, true);
  }
}

// Only barriers order threads for the thread sanitizer: of the group by `this`, of a SIMD group by
// its exchange.
void Machine::wait(State state, Site site, bool orders_memory) {
  GpuThread& self = threads_[running.thread];
  self.state = state;
  self.site = site;
  const void* token = state == State::WaitsForLanes ? static_cast<void*>(running.simd) : this;
  if (orders_memory) Fiber::release(token);
  GpuThread* follower = next();
  if (follower != &self) {
    Fiber& target = follower == nullptr ? caller_ : follower->fiber;
    if (follower != nullptr) go_on(follower);
    self.fiber.switch_to(target);
  } else {
    go_on(follower);
  }
  if (orders_memory) Fiber::acquire(token);
}

void Machine::go_on(GpuThread* next) {
  next->state = State::Runs;
  running.thread = static_cast<std::uint32_t>(next - threads_.data());
  running.simd = &simds_[running.thread / kLanes];
}

// The thread whose turn it is; nullptr when the group is done. A SIMD group runs until all its
// lanes wait for the thread group, lane after lane; then the next one does.
GpuThread* Machine::next() {
  for (;;) {
    while (++lane_turn_ < kLanes) {
      GpuThread& lane = threads_[lane_at(lane_turn_)];
      if (lane.state == State::Runs) return &lane;
    }
    lane_turn_ = ~0U;
    if (lanes_have_met()) continue;
    const std::uint32_t simds = count_ / kLanes;
    if (++simd_turn_ == simds) {
      if (!group_has_met()) return nullptr;
      simd_turn_ = 0;
    }
    simd_at_ = place_in_order(launch_->order, simd_turn_, simds, running.group[0]);
  }
}

// All lanes of the SIMD group have had their turn. True when they waited for each other, and may go
// on; false when they wait for the group, or are done.
bool Machine::lanes_have_met() {
  GpuThread* first = nullptr;
  std::uint32_t participants = 0;
  const std::uint32_t begin = simd_at_ * kLanes;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    GpuThread& thread = threads_[begin + lane];
    if (thread.state == State::Done) continue;
    if (first == nullptr) first = &thread;
    if (thread.state != first->state || !(thread.site == first->site)) {
      stop("lanes of a SIMD group wait at different places", *first, thread);
    }
    participants |= 1U << lane;
  }
  if (first == nullptr || first->state == State::WaitsForGroup) return false;
  SimdExchange& simd = simds_[simd_at_];
  simd.slots[simd.turn].participants = participants;
  simd.slots[simd.turn].is_folded = false;
  simd.turn ^= 1U;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((participants >> lane & 1U) != 0) threads_[begin + lane].state = State::Runs;
  }
  return true;
}

// All threads wait for the group or are done. True when they met at a barrier, and may go on.
bool Machine::group_has_met() {
  GpuThread* waiting = nullptr;
  GpuThread* done = nullptr;
  for (std::uint32_t i = 0; i < count_; ++i) {
    GpuThread& thread = threads_[i];
    if (thread.state == State::Done) {
      done = &thread;
    } else if (waiting == nullptr) {
      waiting = &thread;
    } else if (!(thread.site == waiting->site)) {
      stop("threads wait at different barriers", *waiting, thread);
    }
  }
  if (waiting == nullptr) return false;
  if (done != nullptr) stop("threads wait at a barrier that others never reach", *waiting, *done);
  for (std::uint32_t i = 0; i < count_; ++i) threads_[i].state = State::Runs;
  return true;
}

std::string Machine::describe(const GpuThread& thread) const {
  const auto index = &thread - threads_.data();
  if (thread.state == State::Done) return fmt::format("thread {} has left the kernel", index);
  return fmt::format("thread {} waits at {}:{}", index, thread.site.file, thread.site.line);
}

// Leaves the threads where they are for good; nothing in a kernel has a destructor.
void Machine::stop(const char* what, const GpuThread& one, const GpuThread& other) {
  error_ =
      fmt::format("kernel {}, group {} {} {}: {}: {}, {}", launch_->kernel->name, running.group[0],
                  running.group[1], running.group[2], what, describe(one), describe(other));
  threads_[running.thread].fiber.switch_to(caller_);
  std::terminate();  // nobody comes back
}

void* Machine::group_variable(const void* key, std::uint32_t bytes) {
  for (GroupVariable& variable : variables_) {
    if (variable.key != key) continue;
    if (std::exchange(variable.generation, generation_) != generation_) variable.memory.poison();
    return variable.memory.get();
  }
  variables_.push_back({key, GroupMemory(bytes), generation_});
  return variables_.back().memory.get();
}

void Machine::hire(std::uint32_t count) {
  threads_.reserve(kMaxThreads);  // a fiber that waits stays where it is: its stack points to it
  while (threads_.size() < count) {
    threads_.emplace_back(static_cast<std::uint32_t>(threads_.size()));
  }
  if (simds_.size() < count / kLanes) simds_.resize(count / kLanes);
}

void Machine::run_group(const Launch& launch) {
  ++generation_;
  for (std::uint32_t i = 0; i < count_; ++i) threads_[i].state = State::Runs;
  simd_turn_ = 0;
  simd_at_ = place_in_order(launch.order, 0, count_ / kLanes, running.group[0]);
  lane_turn_ = ~0U;
  GpuThread* first = next();
  go_on(first);
  Fiber::release(this);
  caller_.switch_to(first->fiber);
  Fiber::acquire(this);
  if (!error_.empty()) {
    threads_.clear();
    throw Error(std::exchange(error_, {}));
  }
}

void Machine::run(const Launch& launch) {
  launch_ = &launch;
  count_ = volume(launch.threads);
  if (count_ == 0 || count_ % kLanes != 0 || count_ > kMaxThreads) {
    fail("kernel {}: {} threads in a group: a multiple of {}, at most {}, is needed",
         launch.kernel->name, count_, kLanes, kMaxThreads);
  }
  hire(count_);
  launch.kernel->set_constants(launch.constants);
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    lanes_[i] = place_in_order(launch.order, i, kLanes, 0);
  }
  GroupMemory memory(launch.group_memory);
  running = {};
  std::copy_n(launch.threads.data(), 3, running.threads);
  std::copy_n(launch.groups.data(), 3, running.groups);
  running.buffers = launch.buffers.data();
  running.group_memory = memory.get();
  const std::uint32_t groups = volume(launch.groups);
  for (std::uint32_t i = 0; i < groups; ++i) {
    const std::uint32_t at = place_in_order(launch.order, i, groups, 0);
    running.group[0] = at % launch.groups[0];
    running.group[1] = at / launch.groups[0] % launch.groups[1];
    running.group[2] = at / launch.groups[0] / launch.groups[1];
    memory.poison();
    run_group(launch);
  }
}

}  // namespace

void wait_for_lanes(Site site, bool orders_memory) {
  machine.wait(State::WaitsForLanes, site, orders_memory);
}

void wait_for_group(Site site, bool orders_memory) {
  machine.wait(State::WaitsForGroup, site, orders_memory);
}

void fence_device() {
  static const char token = 0;
  Fiber::release(&token);
  Fiber::acquire(&token);
}

void* group_variable(const void* key, std::uint32_t bytes) {
  return machine.group_variable(key, bytes);
}

bool register_kernel(const Kernel& kernel) {
  return library().emplace(kernel.name, kernel).second;
}

const Kernel* find_kernel(std::string_view name) {
  const auto found = library().find(name);
  return found == library().end() ? nullptr : &found->second;
}

std::uint32_t place_in_order(Order order, std::uint32_t i, std::uint32_t count,
                             std::uint32_t seed) {
  if (order == Order::Forward) return i;
  if (order == Order::Reverse) return count - 1 - i;
  // A step that has no divisor in common with the count visits everything once.
  constexpr std::uint64_t kStep = 7919;
  if (count % kStep == 0) return count - 1 - i;
  return static_cast<std::uint32_t>((i * kStep + seed + count / 3) % count);
}

void execute(const Launch& launch) {
  machine.run(launch);
}

}  // namespace gander::msl
