#pragma once

// Shared by the kernels of machine.metal and their tests, where `uint` is 32 bits.
#define GANDER_TEST_SCALE 0
#define GANDER_TEST_BIAS 1

struct TestParameters {
  uint per_group;
  uint past_scratch, past_buffer;
  uint race_of_threads, race_of_groups;
};
