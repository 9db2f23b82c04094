#include "backend/gpu/emulated/copies.h"

#include "backend/gpu/emulated/gpu_thread.h"

#include <cstring>
#include <deque>
#include <map>
#include <utility>
#include <vector>

namespace gander::msl {
namespace {

constexpr std::size_t kBytes = 16;

using Copies = std::vector<std::pair<void*, const void*>>;

struct ThreadCopies {
  Copies open;
  std::deque<Copies> committed;
};

// By group and thread: those of all groups of a launch may have copies under way.
std::map<std::pair<std::uint32_t, std::uint32_t>, ThreadCopies>& all_copies() {
  thread_local std::map<std::pair<std::uint32_t, std::uint32_t>, ThreadCopies> copies;
  return copies;
}

ThreadCopies& own_copies() {
  return all_copies()[{running.group[0], running.thread}];
}

}  // namespace

void forget_copies() {
  all_copies().clear();
}

void begin_copy(void* to, const void* from) {
  std::memset(to, 0xff, kBytes);
  own_copies().open.emplace_back(to, from);
}

void commit_copies() {
  ThreadCopies& own = own_copies();
  own.committed.push_back(std::exchange(own.open, {}));
}

void wait_for_copies_but(std::uint32_t groups) {
  std::deque<Copies>& committed = own_copies().committed;
  for (; committed.size() > groups; committed.pop_front()) {
    for (const auto& [to, from] : committed.front()) std::memcpy(to, from, kBytes);
  }
}

void wait_for_oldest_copies() {
  const std::size_t groups = own_copies().committed.size();
  if (groups > 0) wait_for_copies_but(static_cast<std::uint32_t>(groups - 1));
}

}  // namespace gander::msl
