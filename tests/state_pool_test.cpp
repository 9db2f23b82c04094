#include "model/state_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "tests/support/cached_states.h"

namespace gander {
namespace {

TEST(StatePool, GivesOutAgainWhatWasLetGo) {
  const Config config = shape_of_model().config();
  StatePool pool(config, 3 * State::bytes(config));
  std::vector<std::shared_ptr<State>> states;
  std::vector<const State*> first;
  for (int i = 0; i < 5; ++i) {
    states.push_back(pool.take());
    first.push_back(states.back().get());
    EXPECT_TRUE(states.back()->fits(config));
    states.back()->values()[0] = static_cast<float>(i);
  }
  const std::shared_ptr<const State> shared = states[4];
  states.clear();  // the last one is still held
  int again = 0;
  for (int i = 0; i < 4; ++i) {
    states.push_back(pool.take());
    EXPECT_NE(states.back().get(), shared.get());
    again += static_cast<int>(std::ranges::count(first, states.back().get()));
  }
  EXPECT_GE(again, 3) << "of the four let go three were kept";
  EXPECT_EQ(shared->values()[0], 4.0F);
}

TEST(StatePool, MayEndBeforeItsStates) {
  const Config config = shape_of_model().config();
  std::shared_ptr<State> state;
  {
    StatePool pool(config, 0);
    state = pool.take();
  }
  state->values()[1] = 1.0F;
  state.reset();
}

TEST(StatePool, ThreadsShareIt) {
  const Config config = shape_of_model().config();
  StatePool pool(config, 4 * State::bytes(config));
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&pool, number] {
      for (int round = 0; round < 200; ++round) {
        const std::shared_ptr<State> state = pool.take();
        for (float& value : state->values()) value = static_cast<float>(number);
        for (const float value : state->values()) ASSERT_EQ(value, static_cast<float>(number));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace gander
