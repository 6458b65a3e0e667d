// The periodic regularizers (Yosinski et al. 2015, section 3): what every backend computes, and the structs that say
// where the elements lie. Shared by filters.cpp (CPU) and filters.cu (CUDA); the reference is ops/filters.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "numbers.h"

namespace classmodels {

// A separable blur: along the rows from x to scratch, then down the columns back to x. An image is `planes` planes of
// `rows` rows of `columns` pixels of `apart` elements: C planes and 1 apart where it is contiguous, one plane and C
// apart in channels_last.
struct Blur {
  float *x, *scratch;
  const float *across, *down;  // the weights along a row and down a column, of 2 * radius + 1 taps
  int64_t across_radius, down_radius;
  const bool* failed;  // [images]; such an image stays as it is
  int64_t images, planes, rows, columns, apart;

  HOST_DEVICE int64_t length() const { return columns * apart; }
  HOST_DEVICE int64_t elements() const { return planes * rows * length(); }
};

// Taps are added up in groups, and the groups then: a wide Gaussian has hundreds of them, and adding to one running
// sum would lose more than PyTorch's float32 does.
constexpr int kGroup = 8;

// Where a row or column shows what would lie at `i`, at most size - 1 outside of it: the border is a mirror.
HOST_DEVICE ALWAYS_INLINE int64_t reflected(int64_t i, int64_t size) {
  return i < 0 ? -i : i < size ? i : 2 * (size - 1) - i;
}

// A clipping: the pixels of least worth become x0. Channel c of pixel p is element p * pixel_apart + c * channel_apart
// of its image.
struct Clip {
  float* x;
  const void* g;  // null: a pixel is worth the norm of x - x0; else |(x - x0) . g|
  Number g_type;
  float* worth;  // [images, pixels + 1]; the last is the worth up to which pixels are clipped
  const bool* failed;
  const float* x0;  // [channels]
  int64_t rank;  // how many pixels to clip, at least; more where some are worth the same
  int64_t images, channels, pixels, pixel_apart, channel_apart;

  HOST_DEVICE int64_t elements() const { return channels * pixels; }
};

// What a channel adds to its pixel's sum. In double: where the channels cancel, a float would rank by rounding errors.
HOST_DEVICE ALWAYS_INLINE double term(float x, float x0) {
  const double away = static_cast<double>(x) - x0;
  return away * away;
}

HOST_DEVICE ALWAYS_INLINE double term(float x, float x0, float g) { return (static_cast<double>(x) - x0) * g; }

// A worth has no sign bit, not even a NaN's: then worths rank as their bits do, NaN last.
HOST_DEVICE ALWAYS_INLINE float worth_of(double sum, bool norm) { return fabsf(static_cast<float>(norm ? sqrt(sum) : sum)); }

// The rank-th smallest worth is the largest number that has fewer than rank worths below it. Its bits are found from
// the top, two at a time: a digit is as large as it can be. No histogram, whose few bins (most worths share their
// exponent) all would have to wait for, and no copy.
constexpr int kDigits = 16;

// `known` and the digit `value` at place `digit`, counted from the top.
HOST_DEVICE ALWAYS_INLINE uint32_t with_digit(uint32_t known, int digit, uint32_t value) {
  return known | value << (2 * (kDigits - 1 - digit));
}

// The next digit, when below[k] worths lie below with_digit(known, digit, k + 1).
HOST_DEVICE ALWAYS_INLINE uint32_t digit_of(const uint32_t (&below)[3], int64_t rank) {
  return (below[0] < rank) + (below[1] < rank) + (below[2] < rank);
}

void blur_cpu(const Blur& blur);
void clip_cpu(const Clip& clip);
// On `stream`, a cudaStream_t. Return null, or what CUDA says is wrong.
const char* blur_cuda(const Blur& blur, void* stream);
const char* clip_cuda(const Clip& clip, void* stream);

}  // namespace classmodels
