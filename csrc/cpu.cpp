// Which instruction sets this processor has, and which one the kernels use.
#include "cpu.h"

#include <atomic>
#include <stdexcept>

namespace classmodels {
namespace {

#if defined(__x86_64__)
constexpr const char* kNames[] = {"sse2", "avx2", "avx512"};

Variant widest() {
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
  return v4 ? Variant::kAvx512 : v3 ? Variant::kAvx2 : Variant::kBaseline;
}
#else
constexpr const char* kNames[] = {"baseline"};

Variant widest() { return Variant::kBaseline; }
#endif

std::atomic<Variant> chosen{widest()};

}  // namespace

Variant variant() { return chosen.load(std::memory_order_relaxed); }

std::vector<std::string> variants() { return {kNames, kNames + static_cast<int>(widest()) + 1}; }

std::string variant_name() { return kNames[static_cast<int>(variant())]; }

void force_variant(const std::string& name) {
  if (name.empty()) return chosen.store(widest());
  const auto names = variants();
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return chosen.store(static_cast<Variant>(i));
  std::string known;
  for (const auto& each : names) known += (known.empty() ? "" : ", ") + each;
  throw std::invalid_argument("variant '" + name + "': expected one of " + known);
}

}  // namespace classmodels
