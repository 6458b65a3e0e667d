// The random transform on the CPU. Looking is vectorised over the pixels of a row and parallel over rows; bringing back
// adds to the image pixel by pixel in order, parallel over planes.
#include "affine.h"

#include <algorithm>

#include <torch/csrc/stable/ops.h>

#include "cpu.h"

namespace classmodels {
namespace {

constexpr int64_t kTile = 256;  // pixels of a row whose places are worked out together

struct Tile {
  int32_t top_left[kTile], top_right[kTile], bottom_left[kTile], bottom_right[kTile];  // elements of a plane
  float right[kTile], bottom[kTile];
};

// The places that pixels [begin, begin + count) of a row of image n show.
ALWAYS_INLINE void places(const Affine& a, int64_t n, int64_t row, int64_t begin, int64_t count, Tile& __restrict tile) {
  const float* m = a.maps + 6 * n;
  const float across[3] = {m[0], m[1], m[2]}, down[3] = {m[3], m[4], m[5]};
  const float centre = centre_of(a.width) - static_cast<float>(begin);
  const float y = static_cast<float>(row) - centre_of(a.height);
  const auto width = static_cast<int32_t>(a.width), height = static_cast<int32_t>(a.height);
  const auto row_apart = static_cast<int32_t>(a.image_apart.row), column_apart = static_cast<int32_t>(a.image_apart.column);
#pragma omp simd
  for (int32_t k = 0; k < static_cast<int32_t>(count); ++k) {
    const float x = static_cast<float>(k) - centre;
    const Between column = between(place_of(across, x, y), width), line = between(place_of(down, x, y), height);
    const int32_t left = column.first * column_apart, right = column.second * column_apart;
    const int32_t top = line.first * row_apart, bottom = line.second * row_apart;
    tile.top_left[k] = top + left, tile.top_right[k] = top + right;
    tile.bottom_left[k] = bottom + left, tile.bottom_right[k] = bottom + right;
    tile.right[k] = column.near, tile.bottom[k] = line.near;
  }
}

// Rows [first, last), counted through all images.
ALWAYS_INLINE void look_body(const Affine& a, int64_t first, int64_t last) {
  Tile tile;
  for (int64_t i = first; i < last; ++i) {
    const int64_t n = i / a.height, row = i % a.height;
    for (int64_t begin = 0; begin < a.width; begin += kTile) {
      const int64_t count = std::min(kTile, a.width - begin), apart = a.seen_apart.column;
      places(a, n, row, begin, count, tile);
      for (int64_t channel = 0; channel < a.channels; ++channel) {
        const float* __restrict from = a.image + n * a.image_apart.image + channel * a.image_apart.channel;
        float* __restrict to = a.seen + n * a.seen_apart.image + channel * a.seen_apart.channel +
            row * a.seen_apart.row + begin * apart;
#pragma omp simd
        for (int32_t k = 0; k < static_cast<int32_t>(count); ++k) {
          const float right = tile.right[k], left = 1 - right;
          const float top = left * from[tile.top_left[k]] + right * from[tile.top_right[k]];
          const float bottom = left * from[tile.bottom_left[k]] + right * from[tile.bottom_right[k]];
          to[k * apart] = (1 - tile.bottom[k]) * top + tile.bottom[k] * bottom;
        }
      }
    }
  }
}
VARIANTS(look, (const Affine& a, int64_t first, int64_t last), (a, first, last))

// Planes [first, last), counted through all images.
ALWAYS_INLINE void bring_back_body(const Affine& a, int64_t first, int64_t last) {
  Tile tile;
  for (int64_t i = first; i < last; ++i) {
    const int64_t n = i / a.channels, channel = i % a.channels, apart = a.seen_apart.column;
    float* to = a.image + n * a.image_apart.image + channel * a.image_apart.channel;
    for (int64_t row = 0; row < a.height; ++row)
      for (int64_t k = 0; k < a.width; ++k) to[row * a.image_apart.row + k * a.image_apart.column] = 0;
    for (int64_t row = 0; row < a.height; ++row) {
      for (int64_t begin = 0; begin < a.width; begin += kTile) {
        const int64_t count = std::min(kTile, a.width - begin);
        places(a, n, row, begin, count, tile);
        const float* from = a.seen + n * a.seen_apart.image + channel * a.seen_apart.channel +
            row * a.seen_apart.row + begin * apart;
        for (int64_t k = 0; k < count; ++k) {
          const float value = from[k * apart], right = tile.right[k];
          const float bottom = tile.bottom[k] * value, top = value - bottom;
          to[tile.top_left[k]] += (1 - right) * top;
          to[tile.top_right[k]] += right * top;
          to[tile.bottom_left[k]] += (1 - right) * bottom;
          to[tile.bottom_right[k]] += right * bottom;
        }
      }
    }
  }
}
VARIANTS(bring_back, (const Affine& a, int64_t first, int64_t last), (a, first, last))

}  // namespace

void affine_cpu(const Affine& a) {
  torch::stable::parallel_for(0, a.images * a.height, 16, [&a](int64_t first, int64_t last) { look(a, first, last); });
}

void affine_adjoint_cpu(const Affine& a) {
  torch::stable::parallel_for(
      0, a.images * a.channels, 1, [&a](int64_t first, int64_t last) { bring_back(a, first, last); });
}

}  // namespace classmodels
