#include "backend/gpu/emulated/machine.h"

#include "backend/gpu/emulated/copies.h"
#include "backend/gpu/emulated/fiber.h"
#include "backend/gpu/emulated/gpu_thread.h"
#include "backend/gpu/emulated/group_memory.h"
#include "base/error.h"

#include <algorithm>
#include <deque>
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

enum class State : std::uint8_t { Runs, WaitsForLanes, WaitsForGroup, WaitsForOthers, Done };

[[noreturn]] void run_threads_of_machine();

struct GpuThread {
  explicit GpuThread(std::uint32_t number) : fiber(run_threads_of_machine, number), index(number) {}

  Fiber fiber;
  std::uint32_t index;
  State state = State::Done;
  Site site;
  Site asked;  ///< where it last waited for other groups, and nowhere else since
};

/// One thread group at a time, on fibers that are kept from group to group. Groups that wait for
/// each other have a machine each.
class Machine {
 public:
  /// The next dispatch.
  void set(const Launch& launch);
  /// Makes group `at` of the dispatch the one that runs.
  void begin_group(std::uint32_t at);
  /// Runs the group until its threads have left, or cannot go on without other groups. True then.
  bool run_group();
  /// Whether a thread did anything since the last call but ask again for what had not come.
  bool has_gone_on() { return std::exchange(has_gone_on_, false); }
  /// A thread that waits for other groups.
  const GpuThread* waiting() const;
  std::string describe(const GpuThread& thread) const;
  /// The dispatch is over.
  void end();
  /// The dispatch ends here: its threads are left where they are for good.
  void abandon();

  void wait(State state, Site site, bool orders_memory);
  GroupScope& scope() { return scopes_.back(); }
  [[noreturn]] void run_threads();

 private:
  void hire();
  GpuThread* next();
  bool lanes_have_met();
  bool group_has_met();
  void go_on(GpuThread* next);
  std::uint32_t lane_at(std::uint32_t turn) const { return simd_at_ * kLanes + lanes_[turn]; }
  [[noreturn]] void stop(const char* what, const GpuThread& one, const GpuThread& other);

  Fiber caller_;
  std::vector<std::unique_ptr<GpuThread>> threads_;
  SimdExchange simds_[kMaxThreads / kLanes];
  std::deque<GroupScope> scopes_;  // the last is the running group's
  const Launch* launch_ = nullptr;
  std::uint32_t count_ = 0;           // threads of a group
  std::uint32_t simd_turn_ = 0;       // which SIMD group of the order runs,
  std::uint32_t simd_at_ = 0;         // its index,
  std::uint32_t lane_turn_ = 0;       // and which of its lanes
  std::uint32_t lanes_[kLanes] = {};  // their order
  Running begun_;                     // what its threads see
  bool waits_for_others_ = false;
  bool has_gone_on_ = false;
  std::string error_;
};

// Of this CPU thread; made by its first dispatch. A pointer, because that needs no check at each
// use.
constinit thread_local Machine* machine = nullptr;

std::uint32_t volume(const std::array<std::uint32_t, 3>& of) {
  return of[0] * of[1] * of[2];
}

[[noreturn]] void run_threads_of_machine() {
  machine->run_threads();
}

void Machine::run_threads() {
  for (;;) {
    launch_->kernel->run();
    wait(State::Done, {}, false);
  }
}

void Machine::wait(State state, Site site, bool orders_memory) {
  GpuThread& self = *threads_[running.thread];
  self.state = state;
  self.site = site;
  if (state == State::WaitsForOthers) {
    has_gone_on_ |= !(self.asked == site);
    self.asked = site;
  } else if (state != State::WaitsForLanes) {
    has_gone_on_ = true;
    self.asked = {};
  }
  // Barriers order threads; the caller comes after all that a dispatch did.
  const void* token = state == State::WaitsForGroup ? scope().group_token()
                                                    : scope().simd_token(self.index / kLanes);
  if (orders_memory) Fiber::release(token);
  Fiber::release(this);
  GpuThread* follower = next();
  if (follower != nullptr) go_on(follower);
  if (follower != &self) self.fiber.switch_to(follower == nullptr ? caller_ : follower->fiber);
  if (orders_memory) Fiber::acquire(token);
}

void Machine::go_on(GpuThread* next) {
  next->state = State::Runs;
  running.thread = next->index;
  running.simd = &simds_[next->index / kLanes];
}

// The thread whose turn it is; nullptr when the group is done. A SIMD group runs until all its
// lanes wait for the thread group, lane after lane; then the next one does.
GpuThread* Machine::next() {
  for (;;) {
    while (++lane_turn_ < kLanes) {
      GpuThread& lane = *threads_[lane_at(lane_turn_)];
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
    GpuThread& thread = *threads_[begin + lane];
    if (thread.state == State::Done) continue;
    if (first == nullptr) first = &thread;
    if (thread.state != first->state || !(thread.site == first->site)) {
      stop("lanes of a SIMD group wait at different places", *first, thread);
    }
    participants |= 1U << lane;
  }
  if (first == nullptr || first->state != State::WaitsForLanes) return false;
  SimdExchange& simd = simds_[simd_at_];
  simd.slots[simd.turn].participants = participants;
  simd.slots[simd.turn].is_folded = false;
  simd.turn ^= 1U;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((participants >> lane & 1U) != 0) threads_[begin + lane]->state = State::Runs;
  }
  return true;
}

// All threads wait for the group or for others, or are done. True when they met at a barrier, and
// may go on.
bool Machine::group_has_met() {
  waits_for_others_ = waiting() != nullptr;
  if (waits_for_others_) return false;
  GpuThread* first = nullptr;
  GpuThread* done = nullptr;
  for (std::uint32_t i = 0; i < count_; ++i) {
    GpuThread& thread = *threads_[i];
    if (thread.state == State::Done) {
      done = &thread;
    } else if (first == nullptr) {
      first = &thread;
    } else if (!(thread.site == first->site)) {
      stop("threads wait at different barriers", *first, thread);
    }
  }
  if (first == nullptr) return false;
  if (done != nullptr) stop("threads wait at a barrier that others never reach", *first, *done);
  for (std::uint32_t i = 0; i < count_; ++i) threads_[i]->state = State::Runs;
  return true;
}

const GpuThread* Machine::waiting() const {
  for (std::uint32_t i = 0; i < count_; ++i) {
    if (threads_[i]->state == State::WaitsForOthers) return threads_[i].get();
  }
  return nullptr;
}

std::string Machine::describe(const GpuThread& thread) const {
  if (thread.state == State::Done)
    return fmt::format("thread {} has left the kernel", thread.index);
  return fmt::format("thread {} waits at {}:{}", thread.index, thread.site.file, thread.site.line);
}

// Leaves the threads where they are for good; nothing in a kernel has a destructor.
void Machine::stop(const char* what, const GpuThread& one, const GpuThread& other) {
  error_ =
      fmt::format("kernel {}, group {} {} {}: {}: {}, {}", launch_->kernel->name, running.group[0],
                  running.group[1], running.group[2], what, describe(one), describe(other));
  Fiber::release(this);
  threads_[running.thread]->fiber.switch_to(caller_);
  std::terminate();  // nobody comes back
}

// Threads and memory for the next group. A thread sanitizer has to see new ones: what the group
// before did is in no order with it.
void Machine::hire() {
  if (Fiber::kWatched) threads_.clear();
  if (Fiber::kWatched || scopes_.empty()) scopes_.emplace_back(launch_->group_memory);
  scope().begin();
  begun_.group_memory = scope().dynamic();
  while (threads_.size() < count_) {
    threads_.push_back(std::make_unique<GpuThread>(static_cast<std::uint32_t>(threads_.size())));
  }
}

void Machine::set(const Launch& launch) {
  launch_ = &launch;
  count_ = volume(launch.threads);
  if (count_ == 0 || count_ % kLanes != 0 || count_ > kMaxThreads) {
    fail("kernel {}: {} threads in a group: a multiple of {}, at most {}, is needed",
         launch.kernel->name, count_, kLanes, kMaxThreads);
  }
  launch.kernel->set_constants(launch.constants);
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    lanes_[i] = place_in_order(launch.order, i, kLanes, 0);
  }
  begun_ = {};
  std::copy_n(launch.threads.data(), 3, begun_.threads);
  std::copy_n(launch.groups.data(), 3, begun_.groups);
  begun_.buffers = launch.buffers.data();
}

void Machine::begin_group(std::uint32_t at) {
  const auto& groups = launch_->groups;
  begun_.group[0] = at % groups[0];
  begun_.group[1] = at / groups[0] % groups[1];
  begun_.group[2] = at / groups[0] / groups[1];
  hire();
  for (std::uint32_t i = 0; i < count_; ++i) threads_[i]->state = State::Runs;
}

// Threads that wait for the group go on waiting for those that wait for other groups.
bool Machine::run_group() {
  machine = this;
  running = begun_;
  waits_for_others_ = false;
  for (std::uint32_t i = 0; i < count_; ++i) {
    if (threads_[i]->state == State::WaitsForOthers) threads_[i]->state = State::Runs;
  }
  simd_turn_ = 0;
  simd_at_ = place_in_order(launch_->order, 0, count_ / kLanes, running.group[0]);
  lane_turn_ = ~0U;
  GpuThread* first = next();
  go_on(first);
  caller_.switch_to(first->fiber);
  if (!error_.empty()) {
    abandon();
    throw Error(std::exchange(error_, {}));
  }
  return waits_for_others_;
}

void Machine::end() {
  Fiber::acquire(this);
  scopes_.clear();
}

void Machine::abandon() {
  Fiber::acquire(this);
  threads_.clear();
  scopes_.clear();
}

// Groups take turns whenever one can only wait for others. When all can, none ever goes on.
void run_resident(const Launch& launch) {
  const std::uint32_t groups = volume(launch.groups);
  std::vector<Machine> machines(groups);
  for (std::uint32_t i = 0; i < groups; ++i) {
    machines[i].set(launch);
    machines[i].begin_group(i);
  }
  std::vector<bool> waits(groups, true);
  for (bool all_done = false; !all_done;) {
    all_done = true;
    bool goes_on = false;
    for (std::uint32_t i = 0; i < groups; ++i) {
      const std::uint32_t at = place_in_order(launch.order, i, groups, 0);
      if (!waits[at]) continue;
      waits[at] = machines[at].run_group();
      all_done = all_done && !waits[at];
      goes_on = machines[at].has_gone_on() || goes_on;
    }
    if (all_done || goes_on) continue;
    const auto stuck = std::ranges::find(waits, true) - waits.begin();
    const Machine& one = machines[static_cast<std::size_t>(stuck)];
    const std::string where = one.describe(*one.waiting());
    for (Machine& each : machines) each.abandon();
    fail("kernel {}, group {}: {} for what no other group brings", launch.kernel->name, stuck,
         where);
  }
  for (Machine& each : machines) each.end();
}

}  // namespace

void wait_for_lanes(Site site, bool orders_memory) {
  machine->wait(State::WaitsForLanes, site, orders_memory);
}

void wait_for_group(Site site, bool orders_memory) {
  machine->wait(State::WaitsForGroup, site, orders_memory);
}

void wait_for_others(Site site) {
  machine->wait(State::WaitsForOthers, site, false);
}

void fence_device() {
  static const char token = 0;
  Fiber::release(&token);
  Fiber::acquire(&token);
}

void* group_variable(const void* key, std::uint32_t bytes) {
  return machine->scope().variable(key, bytes);
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
  forget_copies();
  if (launch.resident) {
    run_resident(launch);
    return;
  }
  thread_local Machine of_this_thread;
  of_this_thread.set(launch);
  const std::uint32_t groups = volume(launch.groups);
  for (std::uint32_t i = 0; i < groups; ++i) {
    of_this_thread.begin_group(place_in_order(launch.order, i, groups, 0));
    if (of_this_thread.run_group()) {
      of_this_thread.abandon();
      fail("kernel {}: a group waits for others, which need not run at the same time",
           launch.kernel->name);
    }
  }
  of_this_thread.end();
}

}  // namespace gander::msl
