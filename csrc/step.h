// One step of the ascent from the gradient on: what every backend computes, element by element, and the struct that
// says where the elements lie. Shared by step.cpp (CPU) and step.cu (CUDA); the reference is ops/step.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "numbers.h"

namespace classmodels {

// How the gradient of each image is scaled before the step.
enum class Norm : int64_t { kNone = 0, kRms = 1, kL2 = 2 };

// One row of the coefficients tensor: all that may change from step to step or from image to image. The order is
// that of COEFFICIENTS in ops/step.py.
struct Coefficients {
  float lr;
  float m_keep, m_add, m_correct;  // m = m_keep m + m_add g; its bias is taken out by m_correct
  float v_keep, v_add, v_correct;
  float l2, l1, tv;
};
constexpr int64_t kCoefficients = 10;

constexpr float kAdamEpsilon = 1e-8f;
constexpr float kTvEpsilon = 1e-3f;
constexpr double kNormFloor = 1e-12;

constexpr int64_t kMostChannels = 1024;

// A step of `images` images. Every image is `elements` floats; in memory it is `planes` planes of `rows` rows of
// `length` elements, in which an element's right neighbour of the same channel is `channels_apart` further on.
// Contiguous: planes = C, rows = H, length = W, 1 apart. channels_last: 1 plane, rows = H, length = W * C, C apart.
struct Step {
  float* x;
  float* out;  // where the new image goes when total variation is part of the step; null: in place
  const void* g;
  Number g_type;
  float* m;  // null: no momentum
  float* v;  // null: sgd
  bool* failed;
  double* partial;  // [images, partials]
  const float* coefficients;
  int64_t coefficients_stride;  // 0 where all images share one row
  const float *x0, *low, *high;  // [channels]
  Norm norm;
  int64_t images, channels, elements, planes, rows, length, apart;
};

// The sum of squares of an image is taken in two stages, so that it needs no atomics and is the same every time:
// first over spans of fixed length, then over the spans' partial sums.
constexpr int64_t kSpanUnit = 4096;
constexpr int64_t kMostPartials = 256;

HOST_DEVICE inline int64_t span_of(int64_t elements) {
  const int64_t unit = kSpanUnit * kMostPartials;
  return kSpanUnit * ((elements + unit - 1) / unit);
}

HOST_DEVICE inline int64_t partials_of(int64_t elements) {
  const int64_t span = span_of(elements);
  return elements ? (elements + span - 1) / span : 0;
}

// What the gradient is multiplied by, 1 / max(norm, 1e-12), as two factors: the inverse of a norm near float's end is
// no normal float. The first is a power of two, and 1 but for such norms.
struct Scale {
  float power, rest;

  HOST_DEVICE ALWAYS_INLINE float operator()(float g) const { return g * power * rest; }
};

// From the sum of the gradient's squares.
HOST_DEVICE inline Scale scale_of(double squares, Norm norm, int64_t elements) {
  if (norm == Norm::kNone) return {1.0f, 1.0f};
  const double size = sqrt(norm == Norm::kRms ? squares / static_cast<double>(elements) : squares);
  const float power = size > 0x1p100 ? 0x1p-100f : 1.0f;
  return {power, static_cast<float>(1.0 / (size > kNormFloor ? size : kNormFloor) / power)};
}

// 1 / sqrt(dx^2 + dy^2 + e^2), to about one unit in the last place. Three Newton steps from a guess on the exponent
// (Lomont 2003): several times the speed of a square root and a division.
HOST_DEVICE ALWAYS_INLINE float inverse_length(float dx, float dy) {
  constexpr float kLargest = 3.4028235e38f;
  float squares = dx * dx + dy * dy + kTvEpsilon * kTvEpsilon;
  squares = kLargest < squares ? kLargest : squares;
  const float half = 0.5f * squares;
  float y = float_from_bits(0x5f375a86u - (bits_of(squares) >> 1));
  y = y * (1.5f - (half * y) * y);
  y = y * (1.5f - (half * y) * y);
  return y + y * (0.5f - (half * y) * y);
}

// What of a row of coefficients the update of an element needs.
struct Rates {
  float lr, m_keep, m_add, m_correct, v_keep, v_add, v_correct, twice_l2, threshold, tv;

  HOST_DEVICE ALWAYS_INLINE explicit Rates(const Coefficients& c)
      : lr(c.lr), m_keep(c.m_keep), m_add(c.m_add), m_correct(c.m_correct), v_keep(c.v_keep), v_add(c.v_add),
        v_correct(c.v_correct), twice_l2(2.0f * c.l2), threshold(c.lr * c.l1), tv(c.tv) {}
};

// The new value of one element. g is the normalised gradient; `pull` the gradient of TV at the old image.
// Written with comparisons, not fmin and fmax, so that a NaN stays one.
template <bool kMomentum, bool kAdam, bool kTv>
HOST_DEVICE ALWAYS_INLINE float moved(
    float x, float g, float& m, float& v, float pull, float x0, float low, float high, const Rates& c) {
  float d = g;
  if (kMomentum) {
    m = c.m_keep * m + c.m_add * g;
    d = m * c.m_correct;
  }
  if (kAdam) {
    v = c.v_keep * v + c.v_add * (g * g);
    d = d / (sqrtf(v * c.v_correct) + kAdamEpsilon);
  }
  d = d - c.twice_l2 * (x - x0);
  if (kTv) d = d - c.tv * pull;
  float z = x + c.lr * d;
  const float offset = z - x0;
  const float shrunk = z - copysignf(c.threshold, offset);
  z = fabsf(offset) <= c.threshold ? x0 : shrunk;
  z = low > z ? low : z;
  return high < z ? high : z;
}

void step_cpu(const Step& step);
// On `stream`, a cudaStream_t. Returns null, or what CUDA says is wrong.
const char* step_cuda(const Step& step, void* stream);

}  // namespace classmodels
