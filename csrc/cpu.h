// How the CPU kernels are written once and compiled for several instruction sets, and how one of them is chosen.
//
// A kernel is an always-inline body; VARIANTS(...) wraps it into one function for each instruction set, whose target
// the inlined body then takes on. The binary runs on every processor of its architecture. Variants may differ in
// the last bits: where there are fused multiply-adds they are used.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace classmodels {

enum class Variant : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The variant in use: the widest this processor has, unless another was forced.
Variant variant();
// The names of the variants this processor can run, narrowest first: sse2, avx2, avx512 (elsewhere: baseline).
std::vector<std::string> variants();
std::string variant_name();
// Use the named variant from now on; an empty name goes back to the widest. Throws std::invalid_argument.
void force_variant(const std::string& name);

}  // namespace classmodels

#if defined(__x86_64__)
#define FOR_AVX2 __attribute__((target("arch=x86-64-v3")))
#define FOR_AVX512 __attribute__((target("arch=x86-64-v4,prefer-vector-width=512")))
#else
#define FOR_AVX2
#define FOR_AVX512
#endif

// VARIANTS(name, (parameters), (arguments)) defines `name`, which calls name_body for the variant in use.
#define VARIANTS(name, parameters, arguments)                   \
  static void name##_baseline parameters { name##_body arguments; } \
  FOR_AVX2 static void name##_avx2 parameters { name##_body arguments; } \
  FOR_AVX512 static void name##_avx512 parameters { name##_body arguments; } \
  static void name parameters {                                 \
    switch (variant()) {                                        \
      case Variant::kAvx512:                                    \
        return name##_avx512 arguments;                         \
      case Variant::kAvx2:                                      \
        return name##_avx2 arguments;                           \
      default:                                                  \
        return name##_baseline arguments;                       \
    }                                                           \
  }
