// The stand-in for the Objective-C runtime and Foundation: what works as on macOS, and that misuse
// ends the program. tests/standin_metal_test.cpp does the same for Metal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "backend/gpu/metal/metal_api.h"
#include "tests/metal_standin/standin.h"

extern "C" {
void objc_msgSend_stret();
void* MTLCreateSystemDefaultDevice();
}

namespace gander::gpu::metal {
namespace {

class StandinTest : public testing::Test {
 protected:
  StandinTest() {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    standin::reset();
  }
  ~StandinTest() override { EXPECT_EQ(standin::leaks(), ""); }

  static Retained<Object> new_object() {
    return Retained<Object>(send<"init", Object>(send<"alloc", Object>(class_named("NSString"))));
  }
};
using StandinDeathTest = StandinTest;

TEST_F(StandinTest, NilAnswersWithZeros) {
  const Object nil;
  EXPECT_EQ((send<"length", UInteger>(nil)), 0U);
  EXPECT_EQ((send<"GPUStartTime", double>(nil)), 0.0);
  EXPECT_FALSE((send<"retain", Object>(nil)));
}

TEST_F(StandinTest, CountsReferences) {
  {
    const auto object = new_object();
    const auto again = retain(object.get());
    EXPECT_EQ((send<"retainCount", UInteger>(object.get())), 2U);
    EXPECT_EQ(standin::leaks(), "1 NSString");
  }
  EXPECT_EQ(standin::leaks(), "");
}

TEST_F(StandinTest, PoolsReleaseWhatIsAutoreleased) {
  {
    const AutoreleasePool outer;
    make_string("outer");
    {
      const AutoreleasePool inner;
      make_string("inner");
      EXPECT_EQ(standin::leaks(), "2 NSString");
    }
    EXPECT_EQ(standin::leaks(), "1 NSString");
  }
  EXPECT_EQ(standin::leaks(), "");
}

TEST_F(StandinTest, StringsAreUtf8) {
  const AutoreleasePool pool;
  const auto text = make_string("a\xc3\xa4\xf0\x9f\xa6\xa2");  // one, one and two UTF-16 units
  EXPECT_EQ(to_text(text), "a\xc3\xa4\xf0\x9f\xa6\xa2");
  EXPECT_EQ((send<"length", UInteger>(text)), 4U);
  for (const char* broken : {"\xff", "\xc3", "a\x80", "\xf0\x9f\xa6"}) {
    EXPECT_FALSE((send<"stringWithUTF8String:", String>(class_named("NSString"), broken)))
        << broken;
  }
}

TEST_F(StandinTest, BlocksAreCopiedAndDisposedOf) {
  auto captured = std::make_shared<int>(0);
  {
    Block block([captured](Object) { ++*captured; });
    EXPECT_EQ(standin::leaks(), "1 blocks");
    void* again = _Block_copy(block.get());
    EXPECT_EQ(again, block.get());
    EXPECT_EQ(captured.use_count(), 2);
    _Block_release(again);
    EXPECT_EQ(captured.use_count(), 2);
  }
  EXPECT_EQ(captured.use_count(), 1);
}

#if defined(__x86_64__)
TEST_F(StandinTest, ReturnsLargeStructures) {
  const Retained<MetalGpu> gpu(MetalGpu{{MTLCreateSystemDefaultDevice()}});
  using Method = Size (*)(Id, Selector);
  const auto method = reinterpret_cast<Method>(objc_msgSend_stret);
  EXPECT_EQ(method(gpu.get().id, selector<"maxThreadsPerThreadgroup">()).depth, 1024U);
}
#endif

TEST_F(StandinTest, OlderSystemsLackNewerThings) {
  const auto exists = [](const char* name) { return objc_getClass(name) != nullptr; };
  EXPECT_TRUE(exists("MTLResidencySetDescriptor"));
  EXPECT_TRUE(make_object<CompileOptions>()->has_math_mode());
  standin::settings().macos_version = 14;
  EXPECT_FALSE(exists("MTLResidencySetDescriptor"));
  EXPECT_TRUE(exists("MTLCompileOptions"));
  EXPECT_FALSE(make_object<CompileOptions>()->has_math_mode());
  EXPECT_FALSE(exists("MTLBuffer"));  // a protocol
}

TEST_F(StandinDeathTest, ReleasedTooOften) {
  auto use = [] {
    const auto object = new_object();
    send<"release">(object.get());
  };
  EXPECT_DEATH(use(), "-\\[NSString release\\]: the object has been released");
}

TEST_F(StandinDeathTest, UsedAfterItsRelease) {
  auto use = [] {
    Object object = new_object().get();
    send<"length", UInteger>(object);
  };
  EXPECT_DEATH(use(), "-\\[NSString length\\]: the object has been released");
}

TEST_F(StandinDeathTest, ReleasedWhileAPoolOwnsIt) {
  auto use = [] {
    const AutoreleasePool pool;
    send<"release">(make_string("owned by the pool"));
  };
  EXPECT_DEATH(use(), "released");
}

TEST_F(StandinDeathTest, UnknownMethod) {
  EXPECT_DEATH((send<"lenght", UInteger>(new_object().get())),
               "-\\[NSString lenght\\]: unrecognized selector");
  EXPECT_DEATH((send<"strign", Object>(class_named("NSString"))),
               "\\+\\[NSString strign\\]: unrecognized selector");
  standin::settings().macos_version = 14;
  auto use = [] {
    standin::settings().macos_version = 14;
    make_object<CompileOptions>()->set_math_mode(MathMode::Safe);
  };
  EXPECT_DEATH(use(), "setMathMode:\\]: unrecognized selector, on macOS 14");
}

TEST_F(StandinDeathTest, SelectorThatIsOnlyAString) {
  using Method = void (*)(Id, const char*);
  const auto method = reinterpret_cast<Method>(objc_msgSend);
  EXPECT_DEATH(method(new_object().get().id, "length"), "not from sel_registerName");
}

TEST_F(StandinDeathTest, NoObjectAtAll) {
  int number = 0;
  EXPECT_DEATH(send<"retain">(Object{&number}), "no object ever was");
}

TEST_F(StandinDeathTest, AutoreleasedWithoutPool) {
  EXPECT_DEATH(make_string("leaks"), "NSString was autoreleased with no pool in place");
}

TEST_F(StandinDeathTest, PoolOfAnotherThreadOrLeftInPlace) {
  EXPECT_DEATH(objc_autoreleasePoolPop(reinterpret_cast<void*>(1)), "not in place on this thread");
  EXPECT_DEATH(std::thread([] { objc_autoreleasePoolPush(); }).join(),
               "a thread ends with 1 autorelease pools in place");
}

TEST_F(StandinDeathTest, Arguments) {
  auto use = [](bool released) {
    const AutoreleasePool pool;
    Object argument = make_array(make_string("x"));
    if (released) argument = new_object().get();
    send<"isEqualToString:", bool>(make_string("y"), argument);
  };
  EXPECT_DEATH(use(true), "isEqualToString:: an argument, a NSString, has been released");
  EXPECT_DEATH(use(false), "isEqualToString:: an argument is of the wrong class, NSArray");
  int number = 0;
  EXPECT_DEATH((send<"isEqualToString:", bool>(new_object().get(), Object{&number})),
               "is no object");
}

TEST_F(StandinDeathTest, NoBlock) {
  int words[8] = {};
  auto use = [&words] {
    const AutoreleasePool pool;
    const Retained<MetalGpu> gpu(MetalGpu{{MTLCreateSystemDefaultDevice()}});
    const auto queue = gpu->new_command_queue(1);
    const auto descriptor = make_object<CommandBufferDescriptor>();
    queue->command_buffer(descriptor.get()).add_completed_handler(words);
  };
  EXPECT_DEATH(use(), "addCompletedHandler:: the argument is no block");
}

}  // namespace
}  // namespace gander::gpu::metal
