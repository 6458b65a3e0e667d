// Words that host and device compilers share, and the number types a gradient may come in.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#define ALWAYS_INLINE __forceinline__
#else
#define HOST_DEVICE
#define ALWAYS_INLINE inline __attribute__((always_inline))
#endif

namespace classmodels {

enum class Number : int64_t { kFloat = 0, kBfloat16 = 1, kHalf = 2 };

// Storage of the two half precisions; the conversions are written out so that host and device share them and a
// compiler can vectorise them.
struct Bfloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

HOST_DEVICE ALWAYS_INLINE float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

HOST_DEVICE ALWAYS_INLINE uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

HOST_DEVICE ALWAYS_INLINE float to_float(float value) { return value; }

HOST_DEVICE ALWAYS_INLINE float to_float(Bfloat16 value) {
  return float_from_bits(static_cast<uint32_t>(value.bits) << 16);
}

// Exponent and mantissa move into float's places; a multiplication by 2^112 mends the bias, also of denormals.
// Infinity and NaN are what lies at or beyond 2^16 then: their exponent is filled up.
HOST_DEVICE ALWAYS_INLINE float to_float(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t rest = static_cast<uint32_t>(value.bits & 0x7fffu) << 13;
  const float scaled = float_from_bits(rest) * 0x1p112f;
  const uint32_t full = rest >= 0x0f800000u ? 0x7f800000u : 0u;
  return float_from_bits(bits_of(scaled) | full | sign);
}

}  // namespace classmodels
