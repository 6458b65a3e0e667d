// The periodic regularizers on CUDA. Blur is two launches, one for each direction; a clipping is three: what every
// pixel is worth, how much each image clips, the clipping. No float is added in an order that chance decides.
#include "filters.h"

#include "grid.cuh"

namespace classmodels {
namespace {

__host__ __device__ __forceinline__ int64_t blocks_of(int64_t items) { return (items + kThreads - 1) / kThreads; }

// This thread's place among the items of its image, when every image has `blocks` blocks.
__device__ __forceinline__ int64_t item_of(int64_t blocks) {
  return blockIdx.x % blocks * kThreads + threadIdx.x;
}

__global__ void __launch_bounds__(kThreads) across(Blur b, int64_t blocks) {
  const int64_t image = blockIdx.x / blocks, element = item_of(blocks), length = b.length();
  if (element >= b.elements() || b.failed[image]) return;
  const int64_t at = element % length, channel = at % b.apart, column = at / b.apart;
  const int64_t start = image * b.elements() + element;
  const float* row = b.x + start - at + channel;
  const int64_t taps = 2 * b.across_radius + 1;
  float sum = 0;
  for (int64_t j = 0; j < taps; j += kGroup) {
    float group = 0;
#pragma unroll
    for (int i = 0; i < kGroup; ++i)
      if (j + i < taps) group += b.across[j + i] * row[reflected(column + j + i - b.across_radius, b.columns) * b.apart];
    sum += group;
  }
  b.scratch[start] = sum;
}

// A thread walks down a stretch of as many rows as a group has taps, so that what it reads serves several sums.
__global__ void __launch_bounds__(kThreads) down(Blur b, int64_t blocks, int64_t stretches) {
  const int64_t image = blockIdx.x / blocks, item = item_of(blocks), length = b.length();
  if (item >= b.planes * stretches * length || b.failed[image]) return;
  const int64_t plane = item / length / stretches, first = item / length % stretches * kGroup;
  const int64_t start = image * b.elements() + plane * b.rows * length + item % length;
  const float* from = b.scratch + start;
  float* to = b.x + start;
  const int64_t taps = 2 * b.down_radius + 1;
  float sum[kGroup] = {}, group[kGroup] = {};
  // The j-th element on the way is tap j - k of the k-th sum.
  for (int64_t j = 0; j < taps + kGroup - 1; j += kGroup) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const int64_t row = first + j + i - b.down_radius;
      // Only sums below the last row, which there are none of, would want more than its reflection.
      const float value = row < b.rows + b.down_radius ? from[reflected(row, b.rows) * length] : 0.0f;
#pragma unroll
      for (int k = 0; k < kGroup; ++k) {
        const int64_t tap = j + i - k;
        if (tap >= 0 && tap < taps) group[k] += b.down[tap] * value;
        if ((i + 1) % kGroup == k) sum[k] += group[k], group[k] = 0;
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
    if (first + k < b.rows) to[(first + k) * length] = sum[k] + group[k];
}

template <typename G>
__global__ void __launch_bounds__(kThreads) worth(Clip c, int64_t blocks) {
  const int64_t image = blockIdx.x / blocks, pixel = item_of(blocks);
  if (pixel >= c.pixels || c.failed[image]) return;
  const int64_t start = image * c.elements() + pixel * c.pixel_apart;
  const float* x = c.x + start;
  const G* g = c.g ? static_cast<const G*>(c.g) + start : nullptr;
  double sum = 0;
#pragma unroll 4
  for (int64_t channel = 0; channel < c.channels; ++channel) {
    const int64_t at = channel * c.channel_apart;
    sum += g ? term(x[at], c.x0[channel], to_float(g[at])) : term(x[at], c.x0[channel]);
  }
  c.worth[image * (c.pixels + 1) + pixel] = worth_of(sum, !g);
}

// One block finds one image's threshold.
__global__ void __launch_bounds__(kThreads) select(Clip c) {
  __shared__ uint32_t below[kDigits][3];
  if (c.failed[blockIdx.x]) return;
  float* worth = c.worth + blockIdx.x * (c.pixels + 1);
  for (int i = threadIdx.x; i < kDigits * 3; i += kThreads) below[i / 3][i % 3] = 0;
  __syncthreads();
  uint32_t known = 0;
  for (int digit = 0; digit < kDigits; ++digit) {
    const uint32_t one = with_digit(known, digit, 1), two = with_digit(known, digit, 2), three = with_digit(known, digit, 3);
    uint32_t mine[3] = {};
#pragma unroll 8
    for (int64_t p = threadIdx.x; p < c.pixels; p += kThreads) {
      const uint32_t bits = bits_of(worth[p]);
      mine[0] += bits < one, mine[1] += bits < two, mine[2] += bits < three;
    }
    for (int k = 0; k < 3; ++k) atomicAdd(&below[digit][k], mine[k]);
    __syncthreads();
    known = with_digit(known, digit, digit_of(below[digit], c.rank));
  }
  if (threadIdx.x == 0) worth[c.pixels] = float_from_bits(known);
}

__global__ void __launch_bounds__(kThreads) apply(Clip c, int64_t blocks) {
  const int64_t image = blockIdx.x / blocks, pixel = item_of(blocks);
  if (pixel >= c.pixels || c.failed[image]) return;
  const float* worth = c.worth + image * (c.pixels + 1);
  if (!(worth[pixel] <= worth[c.pixels])) return;
  float* x = c.x + image * c.elements() + pixel * c.pixel_apart;
  for (int64_t channel = 0; channel < c.channels; ++channel) x[channel * c.channel_apart] = c.x0[channel];
}

}  // namespace

const char* blur_cuda(const Blur& b, void* stream) {
  const int64_t blocks = blocks_of(b.elements());
  const char* error = launch(across, b.images * blocks, stream, b, blocks);
  if (error) return error;
  const int64_t stretches = (b.rows + kGroup - 1) / kGroup, columns = blocks_of(b.planes * stretches * b.length());
  return launch(down, b.images * columns, stream, b, columns, stretches);
}

const char* clip_cuda(const Clip& c, void* stream) {
  const int64_t blocks = blocks_of(c.pixels);
  const auto of_type = c.g_type == Number::kBfloat16 ? worth<Bfloat16> : c.g_type == Number::kHalf ? worth<Half> : worth<float>;
  const char* error = launch(of_type, c.images * blocks, stream, c, blocks);
  if (!error) error = launch(select, c.images, stream, c);
  return error ? error : launch(apply, c.images * blocks, stream, c, blocks);
}

}  // namespace classmodels
