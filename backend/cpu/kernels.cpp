#include "backend/cpu/kernels.h"

#include <array>

#if defined(GANDER_X86_KERNELS)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(GANDER_ARM_KERNELS) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace gander {

extern const Kernels kernels_baseline;
#if defined(GANDER_X86_KERNELS)
extern const Kernels kernels_avx2, kernels_avxvnni, kernels_avx512, kernels_amx;
#elif defined(GANDER_ARM_KERNELS)
extern const Kernels kernels_dotprod;
#endif

namespace {

// Null-terminated: what this processor runs, slowest first.
using Supported = std::array<const Kernels*, 6>;

#if defined(GANDER_X86_KERNELS)

// CPUID leaf 7.1, EAX bit 4. Compilers' own checks learn of it only later than our oldest ones.
bool has_avx_vnni() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & (1U << 4)) != 0;
}

// CPUID leaf 7, EDX bits 24 (tiles) and 25 (8-bit products). Linux gives a process the registers
// when it asks for them: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
bool has_amx() {
#ifdef __linux__
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kTiles = 3U << 24;
  constexpr int kRequest = 0x1023;
  constexpr int kTileData = 18;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kTiles) == kTiles &&
         syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

Supported supported() {
  Supported found{&kernels_baseline};
  std::size_t count = 1;
  // F16C is older than AVX2, and clang 14 cannot ask for it.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found[count++] = &kernels_avx2;
    if (has_avx_vnni()) found[count++] = &kernels_avxvnni;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni")) {
      found[count++] = &kernels_avx512;
      if (has_amx()) found[count++] = &kernels_amx;
    }
  }
  return found;
}

#elif defined(GANDER_ARM_KERNELS)

Supported supported() {
#ifdef __linux__
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) == 0) return {&kernels_baseline};
#endif
  return {&kernels_baseline, &kernels_dotprod};  // every Apple M processor has it
}

#else

Supported supported() {
  return {&kernels_baseline};
}

#endif

}  // namespace

const Kernels* const* all_kernels() {
  static const Supported kernels = supported();
  return kernels.data();
}

const Kernels& best_kernels() {
  const Kernels* const* kernels = all_kernels();
  while (kernels[1] != nullptr) ++kernels;
  return **kernels;
}

}  // namespace gander
