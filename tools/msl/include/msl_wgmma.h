// The instructions of msl_tensor.h on Hopper, by the number of tokens: 64 rows of weights times
// tokens, 64 columns. An instruction takes 16 of them: 32 bytes further on in a row, 16 rows
// further on where rows are units.
#pragma once

template <uint Tokens, bool ByUnit>
struct Wgmma;

// Registers d[0] to d[n - 1], for the text of an instruction and as its operands.
#define MSL_REGISTERS_4_ "%0, %1, %2, %3"
#define MSL_REGISTERS_8_ MSL_REGISTERS_4_ ", %4, %5, %6, %7"
#define MSL_REGISTERS_16_ \
  MSL_REGISTERS_8_        \
  ", %8, %9, %10, %11, %12, %13, %14, %15"
#define MSL_REGISTERS_32_                    \
  MSL_REGISTERS_16_                          \
  ", %16, %17, %18, %19, %20, %21, %22, %23" \
  ", %24, %25, %26, %27, %28, %29, %30, %31"
#define MSL_REGISTERS_64_                    \
  MSL_REGISTERS_32_                          \
  ", %32, %33, %34, %35, %36, %37, %38, %39" \
  ", %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55" \
  ", %56, %57, %58, %59, %60, %61, %62, %63"
#define MSL_REGISTERS_128_                           \
  MSL_REGISTERS_64_                                  \
  ", %64, %65, %66, %67, %68, %69, %70, %71"         \
  ", %72, %73, %74, %75, %76, %77, %78, %79"         \
  ", %80, %81, %82, %83, %84, %85, %86, %87"         \
  ", %88, %89, %90, %91, %92, %93, %94, %95"         \
  ", %96, %97, %98, %99, %100, %101, %102, %103"     \
  ", %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119" \
  ", %120, %121, %122, %123, %124, %125, %126, %127"
#define MSL_SUMS_4_(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define MSL_SUMS_8_(d, i) MSL_SUMS_4_(d, i), MSL_SUMS_4_(d, i + 4)
#define MSL_SUMS_16_(d, i) MSL_SUMS_8_(d, i), MSL_SUMS_8_(d, i + 8)
#define MSL_SUMS_32_(d, i) MSL_SUMS_16_(d, i), MSL_SUMS_16_(d, i + 16)
#define MSL_SUMS_64_(d, i) MSL_SUMS_32_(d, i), MSL_SUMS_32_(d, i + 32)
#define MSL_SUMS_128_(d, i) MSL_SUMS_64_(d, i), MSL_SUMS_64_(d, i + 64)

#define MSL_WGMMA_STEP_(tokens, sums, by_unit)                                                     \
  "wgmma.mma_async.sync.aligned.m64n" tokens "k16.f32.f16.f16 {" sums "}, a, b, p, 1, 1, " by_unit \
  ", 0;\n"
#define MSL_WGMMA_(tokens, count, first, second, by_unit, text_by_unit, step)                 \
  template <>                                                                                 \
  struct Wgmma<tokens, by_unit> {                                                             \
    static MSL_MEMBER void multiply(float* d, ulong weights, ulong columns) {                 \
      asm volatile(                                                                           \
          "{ .reg .pred p; .reg .b64 a, b; setp.ne.b32 p, 1, 0;\n"                            \
          "mov.b64 a, %" first "; mov.b64 b, %" second ";\n" MSL_WGMMA_STEP_(                 \
              #tokens, MSL_REGISTERS_##count##_,                                              \
              text_by_unit) "add.u64 a, a, " step                                             \
                            "; add.u64 b, b, 2;\n" MSL_WGMMA_STEP_(                           \
                                #tokens, MSL_REGISTERS_##count##_,                            \
                                text_by_unit) "add.u64 a, a, " step                           \
                                              "; add.u64 b, b, 2;\n" MSL_WGMMA_STEP_(         \
                                                  #tokens, MSL_REGISTERS_##count##_,          \
                                                  text_by_unit) "add.u64 a, a, " step         \
                                                                "; add.u64 b, b, "            \
                                                                "2;\n" MSL_WGMMA_STEP_(       \
                                                                    #tokens,                  \
                                                                    MSL_REGISTERS_##count##_, \
                                                                    text_by_unit) " }"        \
          : MSL_SUMS_##count##_(d, 0)                                                         \
          : "l"(weights), "l"(columns)                                                        \
          : "memory");                                                                        \
    }                                                                                         \
  };
#define MSL_WGMMA_BOTH_(tokens, count, first, second)       \
  MSL_WGMMA_(tokens, count, first, second, false, "0", "2") \
  MSL_WGMMA_(tokens, count, first, second, true, "1", "128")
MSL_WGMMA_BOTH_(8, 4, "4", "5")
MSL_WGMMA_BOTH_(16, 8, "8", "9")
MSL_WGMMA_BOTH_(32, 16, "16", "17")
MSL_WGMMA_BOTH_(64, 32, "32", "33")
MSL_WGMMA_BOTH_(128, 64, "64", "65")
MSL_WGMMA_BOTH_(256, 128, "128", "129")
