#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "backend/cpu/kernels.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"

// Every term of the maths matters: a kernel that gets one wrong must be caught by the comparison
// with the reference that the other tests make.
namespace gander {
namespace {

struct Break {
  const char* what;
  void (*apply)(Kernels& kernels);
};

const Break kBreaks[] = {
    {"LayerNorm without its epsilon, GroupNorm with that of LayerNorm",
     [](Kernels& k) {
       k.normalize = [](const float* x, const float* weight, const float* bias, float,
                        std::size_t n,
                        float* out) { best_kernels().normalize(x, weight, bias, 1e-5F, n, out); };
     }},
    {"no norm weights",
     [](Kernels& k) {
       k.normalize = [](const float* x, const float*, const float* bias, float epsilon,
                        std::size_t n, float* out) {
         const std::vector<float> ones(n, 1.0F);
         best_kernels().normalize(x, ones.data(), bias, epsilon, n, out);
       };
     }},
    {"no norm biases",
     [](Kernels& k) {
       k.normalize = [](const float* x, const float* weight, const float*, float epsilon,
                        std::size_t n, float* out) {
         const std::vector<float> zeros(n);
         best_kernels().normalize(x, weight, zeros.data(), epsilon, n, out);
       };
     }},
    {"token shift the other way round",
     [](Kernels& k) {
       k.shift = [](const float* xx, const float* previous, const float* mu, std::size_t n,
                    float* out) { best_kernels().shift(previous, xx, mu, n, out); };
     }},
    {"no token shift",
     [](Kernels& k) {
       k.shift = [](const float* xx, const float*, const float*, std::size_t n, float* out) {
         std::copy_n(xx, n, out);
       };
     }},
    {"decay without its bias w0",
     [](Kernels& k) {
       k.decay = [](float* x, const float*, std::size_t n) {
         const std::vector<float> zeros(n);
         best_kernels().decay(x, zeros.data(), n);
       };
     }},
    {"decay without its low-rank part",
     [](Kernels& k) {
       k.decay = [](float* x, const float* bias, std::size_t n) {
         std::fill_n(x, n, 0.0F);
         best_kernels().decay(x, bias, n);
       };
     }},
    {"no biases a0 and v0",
     [](Kernels& k) {
       k.sigmoid = [](float* x, const float*, std::size_t n) {
         const std::vector<float> zeros(n);
         best_kernels().sigmoid(x, zeros.data(), n);
       };
     }},
    {"kk of the adjusted k",
     [](Kernels& k) {
       k.keys = [](float* key, const float* a, const float* k_k, const float* k_a, std::size_t n,
                   float* kk) {
         const std::vector<float> ones(n, 1.0F);
         best_kernels().keys(key, a, k_k, k_a, n, kk);            // adjusts key
         best_kernels().keys(key, ones.data(), k_k, k_a, n, kk);  // kk anew, key as it is
       };
     }},
    {"no adjustment of k by k_a",
     [](Kernels& k) {
       k.keys = [](float* key, const float* a, const float* k_k, const float*, std::size_t n,
                   float* kk) {
         const std::vector<float> zeros(n);
         best_kernels().keys(key, a, k_k, zeros.data(), n, kk);
       };
     }},
    {"kk without k_k",
     [](Kernels& k) {
       k.keys = [](float* key, const float* a, const float*, const float* k_a, std::size_t n,
                   float* kk) {
         const std::vector<float> ones(n, 1.0F);
         best_kernels().keys(key, a, ones.data(), k_a, n, kk);
       };
     }},
    {"kk not normalised",
     [](Kernels& k) {
       k.keys = [](float* key, const float* a, const float* k_k, const float* k_a, std::size_t n,
                   float* kk) {
         const std::vector<float> before(key, key + n);
         best_kernels().keys(key, a, k_k, k_a, n, kk);
         for (std::size_t i = 0; i < n; ++i) kk[i] = before[i] * k_k[i];
       };
     }},
    {"no value residual",
     [](Kernels& k) { k.value_residual = [](float*, const float*, const float*, std::size_t) {}; }},
    {"y from the state before its update",
     [](Kernels& k) {
       k.head_step = [](const HeadStep& step) {
         for (std::size_t i = 0; i < step.n; ++i) {
           step.y[i] = 0;
           for (std::size_t j = 0; j < step.n; ++j) step.y[i] += step.s[j * step.n + i] * step.r[j];
         }
         HeadStep rest = step;
         std::vector<float> ignored(step.n);
         rest.y = ignored.data();
         best_kernels().head_step(rest);
       };
     }},
    {"no decay of the state",
     [](Kernels& k) {
       k.head_step = [](const HeadStep& step) {
         const std::vector<float> ones(step.n, 1.0F);
         HeadStep other = step;
         other.w = ones.data();
         best_kernels().head_step(other);
       };
     }},
    {"no removal along kk",
     [](Kernels& k) {
       k.head_step = [](const HeadStep& step) {
         const std::vector<float> zeros(step.n);
         HeadStep other = step;
         other.kk = zeros.data();
         best_kernels().head_step(other);
       };
     }},
    {"removal without the learning rate a",
     [](Kernels& k) {
       k.head_step = [](const HeadStep& step) {
         const std::vector<float> ones(step.n, 1.0F);
         HeadStep other = step;
         other.a = ones.data();
         best_kernels().head_step(other);
       };
     }},
    {"state transposed",
     [](Kernels& k) {
       k.head_step = [](const HeadStep& step) {
         HeadStep other = step;
         std::swap(other.v, other.k);
         best_kernels().head_step(other);
       };
     }},
    {"no bonus",
     [](Kernels& k) {
       k.bonus_and_gate = [](float* y, const float* r, const float* key, const float*,
                             const float* v, const float* g, std::size_t n) {
         const std::vector<float> zeros(n);
         best_kernels().bonus_and_gate(y, r, key, zeros.data(), v, g, n);
       };
     }},
    {"no gate",
     [](Kernels& k) {
       k.bonus_and_gate = [](float* y, const float* r, const float* key, const float* r_k,
                             const float* v, const float*, std::size_t n) {
         const std::vector<float> ones(n, 1.0F);
         best_kernels().bonus_and_gate(y, r, key, r_k, v, ones.data(), n);
       };
     }},
    {"no tanh in the decay",
     [](Kernels& k) {
       k.packed_tiles = [](const PackedProduct& p, std::size_t begin, std::size_t end) {
         PackedProduct other = p;
         if (p.epilogue == Epilogue::Tanh) other.epilogue = Epilogue::Store;
         best_kernels().packed_tiles(other, begin, end);
       };
     }},
    {"no sigmoid in the gate",
     [](Kernels& k) {
       k.packed_tiles = [](const PackedProduct& p, std::size_t begin, std::size_t end) {
         PackedProduct other = p;
         if (p.epilogue == Epilogue::Sigmoid) other.epilogue = Epilogue::Store;
         best_kernels().packed_tiles(other, begin, end);
       };
     }},
    {"no squared relu",
     [](Kernels& k) {
       k.packed_tiles = [](const PackedProduct& p, std::size_t begin, std::size_t end) {
         PackedProduct other = p;
         if (p.epilogue == Epilogue::SquaredRelu) other.epilogue = Epilogue::Store;
         best_kernels().packed_tiles(other, begin, end);
       };
     }},
    {"no residual",
     [](Kernels& k) {
       k.packed_tiles = [](const PackedProduct& p, std::size_t begin, std::size_t end) {
         PackedProduct other = p;
         if (p.epilogue == Epilogue::Add) other.epilogue = Epilogue::Store;
         best_kernels().packed_tiles(other, begin, end);
       };
     }},
    {"the last column of every matrix forgotten",
     [](Kernels& k) {
       k.packed_tiles = [](const PackedProduct& p, std::size_t begin, std::size_t end) {
         PackedMatrix narrower = p.matrix;
         --narrower.columns;
         best_kernels().packed_tiles(
             {narrower, p.values, p.x, p.tokens, p.y, p.y_stride, p.epilogue, p.scratch}, begin,
             end);
       };
     }},
};

class EveryTerm : public ::testing::TestWithParam<std::size_t> {};

TEST_P(EveryTerm, IsMissedWhenItIsWrong) {
  Kernels broken = best_kernels();
  kBreaks[GetParam()].apply(broken);
  static const ReferenceRun kReference = [] {
    Config config = synthetic_config();
    config.layers = 3;
    return ReferenceRun(std::make_shared<const Weights>(make_synthetic_weights(config, 1)), 8);
  }();
  ASSERT_LT(cpu_error(kReference, best_kernels(), 1), kTolerance);
  EXPECT_GT(cpu_error(kReference, broken, 1), 10 * kTolerance) << kBreaks[GetParam()].what;
}

INSTANTIATE_TEST_SUITE_P(Maths, EveryTerm, ::testing::Range<std::size_t>(0, std::size(kBreaks)));

}  // namespace
}  // namespace gander
