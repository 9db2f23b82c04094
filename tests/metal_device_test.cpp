// The Metal backend's device against the stand-in for Metal, which ends the program on misuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "backend/gpu/metal/open_metal.h"
#include "backend/gpu/primitives.h"
#include "base/error.h"
#include "kernels/function_constants.h"
#include "tests/metal_standin/standin.h"
#include "tests/support/temporary_folder.h"

namespace gander::gpu {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Floats = std::vector<float>;

constexpr std::uint32_t kCount = 96;  // values in each array: three groups of 32 threads

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

template <typename T>
std::vector<std::byte> bytes_of(const T& parameters) {
  const auto bytes = std::as_bytes(std::span(&parameters, 1));
  return {bytes.begin(), bytes.end()};
}

class MetalDeviceTest : public testing::Test {
 protected:
  MetalDeviceTest() { standin::reset(); }
  ~MetalDeviceTest() override {
    device_.reset();
    EXPECT_EQ(standin::leaks(), "");
    standin::reset();
  }

  Device& device() {
    if (!device_) device_ = open_metal_device(options_);
    return *device_;
  }

  View floats(const Floats& values) {
    const std::uint64_t size = values.size() * sizeof(float);
    const View view = {device().allocate(size, "floats"), 0, size};
    device().write(view, std::as_bytes(std::span(values)));
    return view;
  }
  Floats values_of(const View& view) {
    Floats values(view.size / sizeof(float));
    device().read(view, std::as_writable_bytes(std::span(values)));
    return values;
  }

  Dispatch dispatch(std::string_view kernel, const std::vector<View>& views,
                    std::vector<std::byte> parameters) {
    Dispatch made;
    made.kernel = kernel;
    made.pipeline = device().pipeline(kernel, {}).id;
    for (const View& view : views) made.bindings.push_back({view, 0, 0});
    made.parameters = std::move(parameters);
    made.groups = {kCount / 32, 1};
    return made;
  }
  Dispatch blit(const View& from, const View& to) {
    return dispatch("blit", {from, to}, bytes_of(CountParameters{kCount}));
  }
  Dispatch add(const View& x, const View& y) {
    return dispatch("add", {x, y}, bytes_of(BroadcastParameters{kCount, kCount}));
  }
  Dispatch affine(const View& y, float scale, float bias) {
    return dispatch("affine", {y}, bytes_of(AffineParameters{kCount, scale, bias}));
  }
  void run(const std::vector<Dispatch>& dispatches) { device().wait(device().submit(dispatches)); }

  MetalOptions options_ = {.device = "", .cache_folder = "", .capture_path = ""};
  std::unique_ptr<Device> device_;
};

const Floats kOnes(kCount, 1.0F);

TEST_F(MetalDeviceTest, TellsWhatTheGpuIs) {
  standin::settings().max_buffer_bytes = 123 << 20;
  standin::settings().working_set_bytes = 456 << 20;
  const auto& info = device().info();
  EXPECT_EQ(info.name, metal_devices().at(0));
  EXPECT_EQ(info.max_buffer_bytes, 123U << 20);
  EXPECT_EQ(info.working_set_bytes, 456U << 20);
  EXPECT_EQ(info.max_group_memory, 32U << 10);
  EXPECT_EQ(info.page_bytes, static_cast<std::uint64_t>(getpagesize()));
  EXPECT_TRUE(info.wraps_memory);
  EXPECT_TRUE(info.device_fences);
}

TEST_F(MetalDeviceTest, DoesWithoutFencesAndResidencySetsOnMacOs14) {
  standin::settings().macos_version = 14;
  EXPECT_FALSE(device().info().device_fences);
  const View from = floats(kOnes), to = floats(Floats(kCount));
  run({blit(from, to)});
  EXPECT_EQ(values_of(to), kOnes);
}

TEST_F(MetalDeviceTest, ChoosesByNameOrNumber) {
  const std::string name = metal_devices().at(0);
  options_.device = name;
  EXPECT_EQ(device().info().name, name);
  device_.reset();
  options_.device = "0";
  EXPECT_EQ(device().info().name, name);
  for (const auto* wanted : {"1", "Voodoo", "0x"}) {
    options_.device = wanted;
    EXPECT_THAT(error_of([&] { open_metal_device(options_); }),
                AllOf(HasSubstr(std::string("'") + wanted + "'"), HasSubstr(name + " (0)")));
  }
}

TEST_F(MetalDeviceTest, RefusesWhatCannotRunTheKernels) {
  standin::settings().apple_silicon = false;
  EXPECT_THAT(error_of([&] { device(); }), HasSubstr("M1 or later"));
  options_.device = "0";
  EXPECT_THAT(error_of([&] { device(); }), HasSubstr("M1 or later"));
  standin::settings().has_device = false;
  EXPECT_THAT(error_of([&] { device(); }), HasSubstr("no GPU here"));
  EXPECT_TRUE(metal_devices().empty());
}

TEST_F(MetalDeviceTest, SaysTheFirstErrorOfTheCompiler) {
  standin::failures().compile = true;
  EXPECT_THAT(error_of([&] { device(); }),
              AllOf(HasSubstr("error: use of undeclared identifier"), Not(HasSubstr("\n"))));
}

TEST_F(MetalDeviceTest, NewBuffersAreZeroAndKeepWhatIsWritten) {
  const View view = {device().allocate(16, "four floats"), 0, 16};
  EXPECT_EQ(values_of(view), Floats(4));
  const Floats two = {5, 6};
  device().write(view.part(8, 8), std::as_bytes(std::span(two)));
  EXPECT_EQ(values_of(view), (Floats{0, 0, 5, 6}));
}

TEST_F(MetalDeviceTest, ReachesOnlyIntoBuffers) {
  const auto buffer = device().allocate(16, "four floats");
  const Floats five(5);
  const auto write = [&](const View& view, std::size_t count) {
    return error_of([&] { device().write(view, std::as_bytes(std::span(five).first(count))); });
  };
  EXPECT_EQ(write({buffer, 0, 16}, 4), "no error");
  EXPECT_THAT(write({buffer, 0, 16}, 5), HasSubstr("20 bytes of a view of 16"));
  EXPECT_THAT(write({buffer, 4, 16}, 4), HasSubstr("at 4 in buffer"));
  EXPECT_THAT(write({buffer, 20, 0}, 0), HasSubstr("at 20 in buffer"));
  EXPECT_THAT(write({buffer + 1, 0, 16}, 4), HasSubstr("no buffer"));
}

TEST_F(MetalDeviceTest, SaysWhenMemoryIsShort) {
  standin::settings().max_buffer_bytes = 1 << 20;
  EXPECT_THAT(error_of([&] { device().allocate(0, "nothing"); }), HasSubstr("nothing"));
  EXPECT_THAT(error_of([&] { device().allocate((1 << 20) + 1, "logits"); }),
              AllOf(HasSubstr("logits"), HasSubstr("1048576")));
  standin::failures().allocation_after = 0;
  EXPECT_THAT(error_of([&] { device().allocate(1 << 20, "logits"); }),
              AllOf(HasSubstr("no memory for logits"), HasSubstr("smaller model")));
}

TEST_F(MetalDeviceTest, WrapsWholePages) {
  const auto page = device().info().page_bytes;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  const std::unique_ptr<void, Free> memory(std::aligned_alloc(page, 2 * page));
  auto* const values = static_cast<float*>(memory.get());
  std::iota(values, values + 2 * page / sizeof(float), 0.0F);
  const std::span<const std::byte> pages(static_cast<std::byte*>(memory.get()), 2 * page);

  const auto before = device().allocated_bytes();
  const View all = {device().wrap(pages, "weights"), 0, 2 * page};
  EXPECT_EQ(device().allocated_bytes() - before, 2 * page);
  const View to = floats(Floats(kCount));
  run({blit(all.part(page, kCount * sizeof(float)), to)});
  EXPECT_EQ(values_of(to),
            Floats(values + page / sizeof(float), values + page / sizeof(float) + kCount));

  EXPECT_THAT(error_of([&] { device().wrap(pages.subspan(16, page), "shifted"); }),
              HasSubstr("whole pages"));
  EXPECT_THAT(error_of([&] { device().wrap(pages.first(page - 16), "short"); }),
              HasSubstr("whole pages"));
  EXPECT_THAT(error_of([&] { device().wrap({}, "nothing"); }), HasSubstr("whole pages"));
  EXPECT_THAT(error_of([&] { device().write(all.part(0, 16), pages.first(16)); }),
              HasSubstr("only read"));
  device_.reset();  // before the memory
}

TEST_F(MetalDeviceTest, KeepsAllBuffersResidentOnceItRuns) {
  const View x = floats(kOnes), y = floats(kOnes);
  device().submit({});
  EXPECT_EQ(standin::resident_bytes(), x.size + y.size);
  const View later = floats(kOnes);
  device().wait(device().submit({}));
  EXPECT_EQ(standin::resident_bytes(), x.size + y.size + later.size);
  device_.reset();
  EXPECT_EQ(standin::resident_bytes(), 0U);
}

TEST_F(MetalDeviceTest, RunsInTheOrderOfTheBarriers) {
  const View x = floats(kOnes), y = floats(kOnes);
  run({affine(y, 3, 0), add(x, y), affine(y, 10, 1), add(y, x)});
  EXPECT_EQ(values_of(y), Floats(kCount, 41));
  EXPECT_EQ(values_of(x), Floats(kCount, 42));
}

TEST_F(MetalDeviceTest, CommandBuffersRunInTheirOrder) {
  const View x = floats(kOnes), y = floats(kOnes);
  const std::vector<Dispatch> first = {affine(y, 3, 0)}, second = {add(x, y)},
                              third = {affine(y, 10, 1)};
  standin::hold_execution(true);  // all are queued before one starts
  device().submit(first);
  device().submit(second);
  const auto last = device().submit(third);
  standin::hold_execution(false);
  device().wait(last);
  EXPECT_EQ(values_of(y), Floats(kCount, 41));
}

// Each dispatch changes one thing of what the one before it bound, so each must be told apart.
TEST_F(MetalDeviceTest, BindsWhatChanges) {
  const std::uint64_t size = kCount * sizeof(float);
  const View all = {device().allocate(4 * size, "four arrays"), 0, 4 * size};
  const auto part = [&](std::uint64_t i) { return all.part(i * size, size); };
  const View other = floats(Floats(kCount, 7));
  run({
      affine(part(0), 0, 1),   // 1
      affine(part(1), 0, 2),   // another offset
      affine(other, 2, 0),     // another buffer: 14
      blit(part(1), part(2)),  // another kernel, a buffer where the parameters were: 2
      blit(part(0), part(3)),  // both offsets: 1
      affine(part(3), 4, 4),   // parameters where a buffer was: 8
      blit(other, part(3)),    // the buffer again, unchanged: 14
  });
  EXPECT_EQ(values_of(part(0)), Floats(kCount, 1));
  EXPECT_EQ(values_of(part(1)), Floats(kCount, 2));
  EXPECT_EQ(values_of(part(2)), Floats(kCount, 2));
  EXPECT_EQ(values_of(part(3)), Floats(kCount, 14));
  EXPECT_EQ(values_of(other), Floats(kCount, 14));
}

TEST_F(MetalDeviceTest, OnlyBarriersThatAreWantedSeparateDispatches) {
  const View x = floats(kOnes);
  const View a = floats(Floats(kCount)), b = floats(Floats(kCount));
  auto second = blit(x, b);
  second.barrier = false;
  standin::reset_counters();
  run({blit(x, a), second, add(a, b)});
  EXPECT_EQ(values_of(b), Floats(kCount, 2));
  EXPECT_EQ(standin::counters().barriers, 1U);  // the first dispatch follows the fence
  EXPECT_EQ(standin::counters().encoders, 1U);
}

TEST_F(MetalDeviceTest, CountsWhatItIsAskedFor) {
  const View x = floats(kOnes), y = floats(kOnes);
  auto overlaps = affine(x, 2, 0);
  overlaps.barrier = false;
  const std::vector<Dispatch> dispatches = {affine(y, 2, 0), overlaps};
  standin::reset_counters();
  device().submit(dispatches);
  const auto second = device().submit(dispatches);
  device().wait(second);
  device().wait(second - 1);
  device().wait(0);
  const auto& counters = device().counters();
  EXPECT_EQ(second, 2U);
  EXPECT_EQ(counters.submissions, 2U);
  EXPECT_EQ(counters.dispatches, 4U);
  EXPECT_EQ(counters.barriers, 2U);
  EXPECT_EQ(counters.waits, 1U);
  EXPECT_GT(counters.gpu_seconds, 0.0);
  EXPECT_EQ(standin::counters().command_buffers, 2U);
  EXPECT_EQ(standin::counters().dispatches, 4U);
  EXPECT_THAT(error_of([&] { device().wait(3); }), HasSubstr("submission 3"));
}

TEST_F(MetalDeviceTest, HasALimitedNumberOfCommandBuffersUnderWay) {
  const View y = floats(Floats(kCount));
  const std::vector<Dispatch> dispatches = {affine(y, 1, 1)};
  standin::hold_execution(true);
  std::thread release([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    standin::hold_execution(false);
  });
  std::uint64_t last = 0;
  for (int i = 0; i < 200; ++i) last = device().submit(dispatches);
  release.join();
  device().wait(last);
  EXPECT_EQ(values_of(y), Floats(kCount, 200));
}

TEST_F(MetalDeviceTest, WaitsForWhatIsUnderWayBeforeItCloses) {
  const std::vector<Dispatch> dispatches = {affine(floats(kOnes), 1, 1)};
  standin::hold_execution(true);
  device().submit(dispatches);
  std::thread release([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    standin::hold_execution(false);
  });
  device_.reset();  // the stand-in ends the program when buffers go before command buffers
  release.join();
}

TEST_F(MetalDeviceTest, EqualArgumentsGiveTheSamePipeline) {
  const FunctionConstant narrow[] = {{GANDER_WIDTH, false, 64}};
  const FunctionConstant wide[] = {{GANDER_WIDTH, false, 128}};
  standin::settings().max_threads["add"] = 448;
  const auto blit = device().pipeline("blit", narrow);
  const auto add = device().pipeline("add", narrow);
  EXPECT_EQ(device().pipeline("blit", narrow).id, blit.id);
  EXPECT_NE(device().pipeline("blit", wide).id, blit.id);
  EXPECT_NE(add.id, blit.id);
  EXPECT_EQ(blit.max_threads, 1024U);
  EXPECT_EQ(add.max_threads, 448U);
}

TEST_F(MetalDeviceTest, NamesTheKernelThatMakesNoPipeline) {
  EXPECT_THAT(error_of([&] { device().pipeline("attention", {}); }),
              AllOf(HasSubstr("kernel attention"), HasSubstr("not found")));
  standin::failures().pipeline = "blit";
  EXPECT_THAT(error_of([&] { device().pipeline("blit", {}); }), HasSubstr("kernel blit"));
}

class MetalArchiveTest : public MetalDeviceTest {
 protected:
  MetalArchiveTest() { options_.cache_folder = folder_.path("not/there/yet"); }

  // Opens, makes two pipelines, closes.
  void make_pipelines() {
    standin::reset_counters();
    device().pipeline("blit", {});
    device().pipeline("add", {});
    device_.reset();
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(*options_.cache_folder)) {
      names.push_back(entry.path().string());
    }
    return names;
  }

  TemporaryFolder folder_;
};

TEST_F(MetalArchiveTest, KeepsPipelinesFromRunToRun) {
  make_pipelines();
  EXPECT_EQ(standin::counters().pipelines_compiled, 2U);
  ASSERT_EQ(files().size(), 1U);  // and nothing temporary
  make_pipelines();
  EXPECT_EQ(standin::counters().pipelines_compiled, 0U);
  EXPECT_EQ(standin::counters().pipelines_from_archive, 2U);
}

TEST_F(MetalArchiveTest, AddsWhatIsNew) {
  make_pipelines();
  device().pipeline("affine", {});
  device_.reset();
  standin::reset_counters();
  device().pipeline("affine", {});
  device().pipeline("blit", {});
  EXPECT_EQ(standin::counters().pipelines_from_archive, 2U);
}

TEST_F(MetalArchiveTest, ReplacesABrokenFile) {
  make_pipelines();
  std::ofstream(files().at(0)) << "not an archive";
  make_pipelines();
  EXPECT_EQ(standin::counters().pipelines_compiled, 2U);
  make_pipelines();
  EXPECT_EQ(standin::counters().pipelines_from_archive, 2U);
}

TEST_F(MetalArchiveTest, IsForOneVersionOfTheSystem) {
  make_pipelines();
  standin::settings().macos_version = 26;
  make_pipelines();
  EXPECT_EQ(standin::counters().pipelines_compiled, 2U);
  EXPECT_EQ(files().size(), 2U);
}

TEST_F(MetalArchiveTest, WorksWithoutAPlaceToWrite) {
  options_.cache_folder = folder_.path("file");
  std::ofstream(*options_.cache_folder) << "in the way";
  make_pipelines();
  make_pipelines();
  EXPECT_EQ(standin::counters().pipelines_compiled, 2U);
  standin::failures().archive = true;
  options_.cache_folder = folder_.path("");
  make_pipelines();
  EXPECT_EQ(standin::counters().pipelines_compiled, 2U);
  EXPECT_EQ(files(), std::vector<std::string>{folder_.path("file")});
}

class MetalFailureTest : public MetalDeviceTest {
 protected:
  // What is said when the second of three command buffers fails.
  std::string error_in(const std::vector<Dispatch>& dispatches, standin::CommandFailure failure) {
    standin::failures().command = failure;
    standin::failures().command_after = 1;
    const std::vector<Dispatch> others = {blit(floats(kOnes), floats(kOnes))};
    device().submit(others);
    device().submit(dispatches);
    return error_of([&] { device().wait(device().submit(others)); });
  }
};

TEST_F(MetalFailureTest, NamesTheKernelOfASingleDispatch) {
  auto dispatch = affine(floats(kOnes), 1, 1);
  dispatch.layer = 5;
  const auto error = error_in({dispatch}, standin::CommandFailure::Timeout);
  EXPECT_THAT(error, AllOf(HasSubstr("command buffer 2"), HasSubstr("kernel affine, layer 5"),
                           HasSubstr("Caused GPU Timeout Error"), HasSubstr("(error 2)"),
                           HasSubstr("close other programs"), Not(HasSubstr("\n"))));
}

TEST_F(MetalFailureTest, NamesTheFirstAndTheLastKernelOfSeveral) {
  const View x = floats(kOnes), y = floats(kOnes);
  EXPECT_THAT(
      error_in({affine(y, 1, 1), add(x, y), blit(y, x)}, standin::CommandFailure::PageFault),
      AllOf(HasSubstr("3 kernels from affine to blit"), HasSubstr("--sync op"),
            HasSubstr("(error 3)"), HasSubstr("outside its buffers")));
}

TEST_F(MetalFailureTest, SaysWhatToDoWithoutMemory) {
  EXPECT_THAT(error_in({affine(floats(kOnes), 1, 1)}, standin::CommandFailure::OutOfMemory),
              AllOf(HasSubstr("(error 8)"), HasSubstr("smaller or more strongly quantised model")));
}

TEST_F(MetalFailureTest, EverythingAfterAFailureSaysTheSame) {
  const std::vector<Dispatch> dispatches = {affine(floats(kOnes), 1, 1)};
  const auto error = error_in(dispatches, standin::CommandFailure::Timeout);
  EXPECT_EQ(error_of([&] { device().submit(dispatches); }), error);
  EXPECT_EQ(error_of([&] { device().wait(1); }), error);
}

class MetalCaptureTest : public MetalDeviceTest {
 protected:
  MetalCaptureTest() {
    standin::settings().capture_enabled = true;
    options_.capture_path = folder_.path("token.gputrace");
  }
  // Metal records one at a time: the last one must be finished.
  void expect_another_capture() {
    const MetalOptions options = {
        .device = "", .cache_folder = "", .capture_path = folder_.path("another.gputrace")};
    const auto other = open_metal_device(options);
    other->wait(other->submit({}));
    EXPECT_TRUE(std::filesystem::exists(options.capture_path));
  }

  TemporaryFolder folder_;
};

TEST_F(MetalCaptureTest, RecordsTheFirstCommandBuffers) {
  options_.capture_submissions = 2;
  const View y = floats(kOnes);
  auto next_layer = affine(y, 2, 0);
  next_layer.layer = 1;
  const std::vector<Dispatch> dispatches = {affine(y, 2, 0), next_layer};
  for (int i = 0; i < 3; ++i) device().submit(dispatches);
  device().wait(3);
  EXPECT_EQ(values_of(y), Floats(kCount, 64));
  EXPECT_TRUE(std::filesystem::exists(options_.capture_path));
  expect_another_capture();
}

TEST_F(MetalCaptureTest, EndsWithTheDevice) {
  options_.capture_submissions = 2;
  run({affine(floats(kOnes), 2, 0)});
  device_.reset();
  EXPECT_TRUE(std::filesystem::exists(options_.capture_path));
  expect_another_capture();
}

TEST_F(MetalCaptureTest, SaysWhatIsInTheWay) {
  standin::settings().capture_enabled = false;
  EXPECT_THAT(error_of([&] { device(); }), HasSubstr("MTL_CAPTURE_ENABLED=1"));
  standin::settings().capture_enabled = true;
  std::ofstream(options_.capture_path) << "an older one";
  EXPECT_THAT(error_of([&] { device(); }), HasSubstr("exists already"));
  options_.capture_path = folder_.path("token");
  EXPECT_THAT(error_of([&] { device(); }), HasSubstr(".gputrace"));
}

}  // namespace
}  // namespace gander::gpu
