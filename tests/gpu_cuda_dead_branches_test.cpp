#include <gmock/gmock.h>

#include "backend/gpu/cuda/dead_branches.h"

// Leaving out branches is work on text: no GPU is needed to test it.
namespace gander::gpu::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kHead =
    ".version 8.5\n.func helper()\n{\n\tbra $L__BB0_1;\n}\n.visible .entry k(\n)\n";

std::string kernel(std::string_view body) {
  return std::string(kHead) + "{\n" + std::string(body) + "}\n// the end\n";
}

std::string folded(std::string_view body) {
  return without_dead_branches(kernel(body));
}

// A branch around a store of 1, taken if the predicate %p9 that `before` sets holds.
std::string guarded(std::string_view before, std::string_view guard = "@%p9") {
  return folded(std::string(before) + "\t" + std::string(guard) +
                " bra $L__BB1_2;\n\tst.u32 [%rd1], 1;\n$L__BB1_2:\n\tst.u32 [%rd1], 2;\n\tret;\n");
}

const auto kBoth = AllOf(HasSubstr("[%rd1], 1"), HasSubstr("[%rd1], 2"), HasSubstr("@%p9 bra"));
const auto kJumps = AllOf(Not(HasSubstr("[%rd1], 1")), HasSubstr("[%rd1], 2"),
                          HasSubstr("bra $L__BB1_2;"), Not(HasSubstr("@")));
const auto kStays =
    AllOf(HasSubstr("[%rd1], 1"), HasSubstr("[%rd1], 2"), Not(HasSubstr("bra $L__BB1")));

// What a kernel asks of its weight types, as the compiler writes it.
std::string has_type(int types, int type) {
  return "\t// begin inline asm\n\tmov.b32 %r1, " + std::to_string(types) +
         ";\n\t// end inline asm\n\tand.b32  \t%r2, %r1, " + std::to_string(1 << type) +
         ";\n\tsetp.eq.s32 \t%p1, %r2, 0;\n\tsetp.ne.s32 \t%p2, %r7, " + std::to_string(type) +
         ";\n\tor.pred  \t%p9, %p2, %p1;\n";
}

TEST(CudaDeadBranches, LeavesOutWhatOtherTypesNeed) {
  EXPECT_THAT(guarded(has_type(0x22, 4)), kJumps);
  EXPECT_THAT(guarded(has_type(0x22, 5)), kBoth) << "the type itself is known only when it runs";
}

TEST(CudaDeadBranches, FollowsConstants) {
  const auto compared = [](std::string_view how) {
    return guarded("\tmov.u32 %r1, 12;\n" + std::string(how));
  };
  EXPECT_THAT(compared("\tsetp.eq.u32 %p9, %r1, 12;\n"), kJumps);
  EXPECT_THAT(compared("\tsetp.ne.b32 %p9, %r1, 12;\n"), kStays);
  EXPECT_THAT(compared("\tshl.b32 %r2, %r1, 2;\n\tsetp.eq.b32 %p9, %r2, 48;\n"), kJumps);
  EXPECT_THAT(compared("\tshr.u32 %r2, %r1, 2;\n\tsetp.eq.b32 %p9, %r2, 3;\n"), kJumps);
  EXPECT_THAT(compared("\tshr.u32 %r2, %r1, 32;\n\tsetp.eq.b32 %p9, %r2, 0;\n"), kJumps);
  EXPECT_THAT(compared("\tor.b32 %r2, %r1, 3;\n\tsetp.eq.b32 %p9, %r2, 15;\n"), kJumps);
  EXPECT_THAT(compared("\tsetp.eq.s32 %p1, %r1, 12;\n\tnot.pred %p9, %p1;\n"), kStays);
  EXPECT_THAT(compared("\tsetp.eq.s32 %p1, %r1, 12;\n\tand.pred %p9, %p1, %p2;\n"), kBoth);
  EXPECT_THAT(compared("\tsetp.ne.s32 %p1, %r1, 12;\n\tand.pred %p9, %p2, %p1;\n"), kStays);
  EXPECT_THAT(compared("\tsetp.ne.s32 %p1, %r1, 12;\n\tor.pred %p9, %p1, %p1;\n"), kStays);
  EXPECT_THAT(compared("\tsetp.lt.s32 %p9, %r1, 12;\n"), kBoth) << "not among what is followed";
  EXPECT_THAT(compared("\tsetp.eq.s16 %p9, %r1, 12;\n"), kBoth);
  EXPECT_THAT(compared("\tsetp.eq.s32 %p9, %r1, %r5;\n"), kBoth);
}

TEST(CudaDeadBranches, TakesNegatedGuardsTheOtherWay) {
  EXPECT_THAT(guarded("\tmov.b32 %r1, 0;\n\tsetp.eq.b32 %p9, %r1, 0;\n", "@!%p9"), kStays);
  EXPECT_THAT(guarded("\tmov.b32 %r1, 1;\n\tsetp.eq.b32 %p9, %r1, 0;\n", "@!%p9"), kJumps);
}

TEST(CudaDeadBranches, TrustsNoRegisterThatMayBeSetElsewhere) {
  const std::string known = "\tmov.b32 %r1, 0;\n\tsetp.eq.b32 %p9, %r1, 0;\n";
  ASSERT_THAT(guarded(known), kJumps);
  EXPECT_THAT(guarded("\tadd.s32 %r1, %r3, %r4;\n" + known), kBoth);
  EXPECT_THAT(guarded("\tld.v2.u32 {%r8, %r1}, [%rd2];\n" + known), kBoth);
  EXPECT_THAT(guarded("\tsetp.eq.b32 %p3|%p9, %r3, %r4;\n" + known), kBoth);
  EXPECT_THAT(guarded("\t{ .reg .b32 t; mov.b64 {t, %r1}, %rd3; }\n" + known), kBoth);
  EXPECT_THAT(guarded("\t@%p4 mov.b32 %r1, 0;\n\tsetp.eq.b32 %p9, %r1, 0;\n"), kBoth)
      << "set only sometimes";
  EXPECT_THAT(guarded("\tadd.s32 %r8, %r1, %r4;\n" + known), kJumps) << "only read";
}

TEST(CudaDeadBranches, KeepsWhatAnythingJumpsTo) {
  const std::string text = folded(
      "\tmov.b32 %r1, 0;\n\tsetp.eq.b32 %p9, %r1, 0;\n$L__BB1_1: // a loop\n"
      "\tadd.s32 %r2, %r2, 1;\n\t@%p9 bra $L__BB1_4;\n\tst.u32 [%rd1], 1;\n$L__BB1_3:\n"
      "\tst.u32 [%rd1], 3;\n\tret;\n$L__BB1_4:\n\tsetp.lt.s32 %p1, %r2, %r3;\n"
      "\t@%p1 bra $L__BB1_1;\n\tsetp.lt.s32 %p2, %r2, %r4;\n\t@%p2 ret;\n\tbra.uni $L__BB1_3;\n");
  EXPECT_THAT(text, Not(HasSubstr("[%rd1], 1")));
  EXPECT_THAT(
      text, AllOf(HasSubstr("[%rd1], 3"), HasSubstr("@%p1 bra $L__BB1_1;"), HasSubstr("@%p2 ret;"),
                  HasSubstr("\nbra $L__BB1_4;"), HasSubstr("\tbra.uni $L__BB1_3;")));
}

TEST(CudaDeadBranches, KeepsDeclarationsAndWhatIsAround) {
  const std::string text = folded(
      "\t.reg .b32 %r<9>;\n\tret;\n\t.shared .align 4 .b8 memory[64];\n\tst.u32 [%rd1], 1;\n");
  EXPECT_EQ(text, std::string(kHead) +
                      "{\n\t.reg .b32 %r<9>;\n\tret;\n\t.shared .align 4 .b8 memory[64];\n"
                      "}\n// the end\n");
}

TEST(CudaDeadBranches, LeavesAloneWhatItDoesNotKnow) {
  const std::string dead = "\tret;\n\tst.u32 [%rd1], 1;\n";
  ASSERT_THAT(folded(dead), Not(HasSubstr("[%rd1], 1")));
  for (const std::string& text :
       {kernel("\tbrx.idx %r1, $L_table;\n" + dead), kernel("\t@%p1 bra $L__BB1_7;\n" + dead),
        std::string(".version 8.5\n"), std::string(), std::string(kHead),
        std::string(kHead) + "{\n", std::string(".entry"), std::string(".entry \n{\n}")}) {
    EXPECT_EQ(without_dead_branches(text), text);
  }
}

}  // namespace
}  // namespace gander::gpu::cuda
