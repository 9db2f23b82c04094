#include <gmock/gmock.h>

#include "backend/gpu/cuda/ptx.h"
#include "base/error.h"
#include "kernels/function_constants.h"

// Specialising a kernel is work on text: no GPU is needed to test it.
namespace gander::gpu::cuda {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kModule = R"(
.version 8.5
.target sm_80
.address_size 64

.extern .shared .align 16 .b8 group_memory[];
.func helper()
{
  mov.b32 %r1, gander_constant_1;
}
.visible .entry scale(
	.param .align 16 .b8 scale_param_0[40]
)
{
  mov.b64 %rd1, gander_arguments;
  mov.b32 %r1, gander_constant_0;
  mov.b32 %r2, gander_constant_10;
	{ // a call
	}
  ret;
}
.visible .entry scale_all(
	.param .align 8 .b8 scale_all_param_0[8]
)
{
  mov.b64 %rd1, gander_arguments;
  mov.b32 %r1, gander_constant_7;
  ret;
}
.visible .entry last()
{
  ret;
}
)";
constexpr std::array kModules = {std::string_view("\n.version 8.5\n"), kModule};
constexpr std::array kConstants = {FunctionConstant{0, false, 2560},
                                   FunctionConstant{1, true, 0x3f800000},
                                   FunctionConstant{10, false, 7}};

std::string error_of(std::string_view kernel, std::span<const std::string_view> modules,
                     std::span<const FunctionConstant> constants) {
  try {
    specialise(modules, kernel, constants);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(CudaPtx, KeepsOneKernelAndWhatAllShare) {
  const KernelText text = specialise(kModules, "scale", kConstants);
  EXPECT_THAT(text.ptx, HasSubstr(".version 8.5"));
  EXPECT_THAT(text.ptx, HasSubstr("group_memory[]"));
  EXPECT_THAT(text.ptx, HasSubstr(".func helper()"));
  EXPECT_THAT(text.ptx, HasSubstr(".entry scale("));
  EXPECT_THAT(text.ptx, Not(HasSubstr("scale_all")));
  EXPECT_THAT(text.ptx, Not(HasSubstr(".entry last")));
  EXPECT_EQ(text.argument_bytes, 40U);
}

TEST(CudaPtx, PutsConstantsIntoTheText) {
  const KernelText text = specialise(kModules, "scale", kConstants);
  EXPECT_THAT(text.ptx, HasSubstr("mov.b32 %r1, 2560;"));
  EXPECT_THAT(text.ptx, HasSubstr("mov.b32 %r1, 1065353216;")) << "constant 1, in the function";
  EXPECT_THAT(text.ptx, HasSubstr("mov.b32 %r2, 7;")) << "constant 10 is not constant 1";
  EXPECT_THAT(text.ptx, HasSubstr("mov.b64 %rd1, scale_param_0;"));
  EXPECT_THAT(text.ptx, Not(HasSubstr("gander_")));
}

TEST(CudaPtx, KernelWithoutArguments) {
  const KernelText text = specialise(kModules, "last", kConstants);
  EXPECT_EQ(text.argument_bytes, 0U);
  EXPECT_THAT(text.ptx, HasSubstr(".entry last()"));
}

TEST(CudaPtx, SaysWhatIsMissing) {
  EXPECT_THAT(error_of("scale_all", kModules, kConstants),
              HasSubstr("scale_all uses function constant 7"));
  EXPECT_THAT(error_of("scal", kModules, kConstants), HasSubstr("no kernel named scal"));
  EXPECT_THAT(error_of("scale", {}, kConstants), HasSubstr("GANDER_CUDA_KERNELS"));
}

TEST(CudaPtx, ParametersFollowTheAddressesAligned) {
  EXPECT_EQ(parameter_offset(0), 0U);
  EXPECT_EQ(parameter_offset(1), 16U);
  EXPECT_EQ(parameter_offset(2), 16U);
  EXPECT_EQ(parameter_offset(15), 128U);
}

constexpr std::string_view kNewer = R"(
.version 8.5
.target sm_90
.visible .entry scale(
	.param .align 16 .b8 scale_param_0[48]
)
{
  ret;
}
)";

TEST(CudaPtx, TheNewestKernelThatTheGpuCanRunIsTaken) {
  constexpr std::array kBoth = {kModule, kNewer};
  EXPECT_EQ(specialise(kBoth, "scale", kConstants, 89).argument_bytes, 40U);
  EXPECT_EQ(specialise(kBoth, "scale", kConstants, 90).argument_bytes, 48U);
  EXPECT_EQ(specialise(kBoth, "scale", kConstants, 120).argument_bytes, 48U);
  EXPECT_THAT(error_of("scale", std::span(&kNewer, 1), kConstants), HasSubstr("no kernel named"));
}

constexpr std::string_view kWaiting = R"(
.version 8.5
.target sm_80
.visible .entry at_once()
{
	// begin inline asm
	gander_begin
	// end inline asm
	first;
	ret;
}
.visible .entry later()
{
	gander_begin
	first;
	gander_begin
	second;
	ret;
}
)";

TEST(CudaPtx, OnHopperKernelsWaitForTheOneBefore) {
  constexpr std::string_view kWait = "griddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;";
  const std::span modules(&kWaiting, 1);
  const KernelText older = specialise(modules, "at_once", kConstants, 89);
  EXPECT_FALSE(older.waits_itself);
  EXPECT_THAT(older.ptx, Not(HasSubstr("gander_begin")));
  EXPECT_THAT(older.ptx, Not(HasSubstr("griddepcontrol")));
  EXPECT_THAT(older.ptx, HasSubstr(".target sm_80\n"));

  const KernelText newer = specialise(modules, "at_once", kConstants, 90);
  EXPECT_TRUE(newer.waits_itself);
  EXPECT_THAT(newer.ptx, HasSubstr(".target sm_90\n")) << "the instruction's first";
  EXPECT_LT(newer.ptx.find(kWait), newer.ptx.find("first;"));

  const std::string later = specialise(modules, "later", kConstants, 120).ptx;
  EXPECT_THAT(later, Not(HasSubstr("gander_begin")));
  EXPECT_EQ(later.find(kWait), later.rfind(kWait)) << "only where the kernel says itself";
  EXPECT_GT(later.find(kWait), later.find("first;"));
  EXPECT_FALSE(specialise(kModules, "scale", kConstants, 90).waits_itself);
}

TEST(CudaPtx, TellsTheCompilerHowManyThreadsAGroupHas) {
  std::vector<FunctionConstant> constants(kConstants.begin(), kConstants.end());
  EXPECT_THAT(specialise(kModules, "scale", constants).ptx, Not(HasSubstr(".maxntid")));
  constants.push_back({.index = GANDER_KERNEL_THREADS, .bits = 512});
  EXPECT_THAT(specialise(kModules, "scale", constants).ptx,
              HasSubstr(")\n.maxntid 512, 1, 1\n.minnctapersm 1\n{\n"));
  constants.push_back({.index = GANDER_KERNEL_GROUPS, .bits = 5});
  EXPECT_THAT(specialise(kModules, "scale", constants).ptx, HasSubstr("\n.minnctapersm 5\n"));
}

}  // namespace
}  // namespace gander::gpu::cuda
