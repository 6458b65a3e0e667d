// The random transform on CUDA: one launch each. The adjoint has no atomics, whose order would decide the last bits: a
// thread gathers for one pixel of the image, in order, from all pixels that may have looked at it.
#include "affine.h"

#include "grid.cuh"

namespace classmodels {
namespace {

// The item of this thread, of as many for each image.
struct Pixel {
  int64_t image, row, column;
};

__device__ __forceinline__ Pixel pixel_of(const Affine& a, int64_t blocks) {
  const int64_t item = blockIdx.x % blocks * kThreads + threadIdx.x;
  return {blockIdx.x / blocks, item / a.width, item % a.width};
}

__global__ void __launch_bounds__(kThreads) look(Affine a, int64_t blocks) {
  const Pixel p = pixel_of(a, blocks);
  if (p.row >= a.height) return;
  const float* m = a.maps + 6 * p.image;
  const float x = static_cast<float>(p.column) - centre_of(a.width), y = static_cast<float>(p.row) - centre_of(a.height);
  const Between column = between(place_of(m, x, y), static_cast<int32_t>(a.width));
  const Between row = between(place_of(m + 3, x, y), static_cast<int32_t>(a.height));
  const float* from = a.image + p.image * a.image_apart.image;
  const float* top = from + row.first * a.image_apart.row;
  const float* bottom = from + row.second * a.image_apart.row;
  const int64_t left = column.first * a.image_apart.column, right = column.second * a.image_apart.column;
  float* to = a.seen + p.image * a.seen_apart.image + p.row * a.seen_apart.row + p.column * a.seen_apart.column;
  for (int64_t channel = 0; channel < a.channels; ++channel) {
    const int64_t at = channel * a.image_apart.channel;
    const float above = (1 - column.near) * top[at + left] + column.near * top[at + right];
    const float below = (1 - column.near) * bottom[at + left] + column.near * bottom[at + right];
    to[channel * a.seen_apart.channel] = (1 - row.near) * above + row.near * below;
  }
}

// The pixels [first, last] of an axis within `reach` of `middle`, which is counted from the centre.
struct Range {
  int32_t first, last;
};

__device__ __forceinline__ Range around(float middle, float reach, int32_t size) {
  const float centre = centre_of(size), low = middle - reach + centre, high = middle + reach + centre;
  const float end = static_cast<float>(size - 1);
  // Written so that a NaN, of a map that cannot be inverted, means all of them.
  return {low > 0 ? static_cast<int32_t>(low < end ? floorf(low) : end + 1) : 0,
          high < end ? static_cast<int32_t>(high > -1 ? ceilf(high) : -1) : size - 1};
}

// What a place along an axis gives to the pixel at `index`.
__device__ __forceinline__ float share(const Between& b, int32_t index) {
  return (b.first == index ? 1 - b.near : 0.0f) + (b.second == index ? b.near : 0.0f);
}

constexpr int kChannels = 4;  // gathered at once
constexpr float kFar = 1000;  // half sides beyond which, as with maps that have no inverse, every pixel is asked

// Three blocks a multiprocessor: unasked, ptxas spills to have four.
__global__ void __launch_bounds__(kThreads, 3) bring_back(Affine a, int64_t blocks) {
  const Pixel p = pixel_of(a, blocks);
  if (p.row >= a.height) return;
  const auto width = static_cast<int32_t>(a.width), height = static_cast<int32_t>(a.height);
  const auto own_column = static_cast<int32_t>(p.column), own_row = static_cast<int32_t>(p.row);
  const float half_width = 0.5f * static_cast<float>(width), half_height = 0.5f * static_cast<float>(height);
  const float x = static_cast<float>(own_column) - centre_of(width), y = static_cast<float>(own_row) - centre_of(height);
  float m[6];
#pragma unroll
  for (int k = 0; k < 6; ++k) m[k] = a.maps[6 * p.image + k];
  // The inverse map takes a place to the pixel that shows it; and a pixel within 1.5 of the place, so that mirrored
  // edges and rounding are well inside, to one within `reach`.
  const float inverse = 1 / (m[0] * m[4] - m[1] * m[3]);
  const float xx = m[4] * inverse, xy = -m[1] * inverse, yx = -m[3] * inverse, yy = m[0] * inverse;
  const float reach_x = 1.5f * (fabsf(xx) + fabsf(xy)) + 1, reach_y = 1.5f * (fabsf(yx) + fabsf(yy)) + 1;
  // The image lies in the plane again and again, every other time mirrored. Copies that no pixel shows are left out.
  const float far_x = fabsf(m[0]) * half_width + fabsf(m[1]) * half_height + fabsf(m[2]);
  const float far_y = fabsf(m[3]) * half_width + fabsf(m[4]) * half_height + fabsf(m[5]);
  const bool found = isfinite(reach_x) && isfinite(reach_y) && far_x < kFar * half_width && far_y < kFar * half_height;
  const int32_t copies_x = found ? static_cast<int32_t>(ceilf(far_x / half_width)) / 2 + 1 : 0;
  const int32_t copies_y = found ? static_cast<int32_t>(ceilf(far_y / half_height)) / 2 + 1 : 0;
  // Within an image 32 bits are enough, see operators.cpp.
  const auto channels = static_cast<int32_t>(a.channels), channel_apart = static_cast<int32_t>(a.seen_apart.channel);
  const auto row_apart = static_cast<int32_t>(a.seen_apart.row), column_apart = static_cast<int32_t>(a.seen_apart.column);
  const float* from = a.seen + p.image * a.seen_apart.image;
  float* to = a.image + p.image * a.image_apart.image + p.row * a.image_apart.row + p.column * a.image_apart.column;
  for (int32_t begin = 0; begin < channels; begin += kChannels) {
    float sum[kChannels] = {};
    for (int32_t j = -copies_y; j <= copies_y; ++j) {
      const float copy_y = static_cast<float>(j) * static_cast<float>(height) + (j % 2 ? -y : y) - m[5];
      for (int32_t i = -copies_x; i <= copies_x; ++i) {
        const float copy_x = static_cast<float>(i) * static_cast<float>(width) + (i % 2 ? -x : x) - m[2];
        const float nowhere = found ? 0.0f : NAN;  // then every pixel is asked
        const Range rows = around(yx * copy_x + yy * copy_y + nowhere, reach_y, height);
        const Range columns = around(xx * copy_x + xy * copy_y + nowhere, reach_x, width);
        for (int32_t row = rows.first; row <= rows.last; ++row) {
          for (int32_t column = columns.first; column <= columns.last; ++column) {
            const float seen_x = static_cast<float>(column) - centre_of(width);
            const float seen_y = static_cast<float>(row) - centre_of(height);
            const float place_x = place_of(m, seen_x, seen_y), place_y = place_of(m + 3, seen_x, seen_y);
            // Each pixel belongs to the one copy of the image in which its place lies.
            const float tile_x = floorf((place_x + half_width) * (0.5f / half_width));
            const float tile_y = floorf((place_y + half_height) * (0.5f / half_height));
            if (found && (tile_x != static_cast<float>(i) || tile_y != static_cast<float>(j))) continue;
            const float weight = share(between(place_x, width), own_column) * share(between(place_y, height), own_row);
            if (weight == 0) continue;
            const float* value = from + begin * channel_apart + row * row_apart + column * column_apart;
#pragma unroll
            for (int k = 0; k < kChannels; ++k)
              if (begin + k < channels) sum[k] += weight * value[k * channel_apart];
          }
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kChannels; ++k)
      if (begin + k < channels) to[(begin + k) * a.image_apart.channel] = sum[k];
  }
}

int64_t blocks_of(const Affine& a) { return (a.height * a.width + kThreads - 1) / kThreads; }

}  // namespace

const char* affine_cuda(const Affine& a, void* stream) {
  return launch(look, a.images * blocks_of(a), stream, a, blocks_of(a));
}

const char* affine_adjoint_cuda(const Affine& a, void* stream) {
  return launch(bring_back, a.images * blocks_of(a), stream, a, blocks_of(a));
}

}  // namespace classmodels
