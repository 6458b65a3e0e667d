// The random transform and its adjoint: what every backend computes, and the struct that says where the elements lie.
// Shared by affine.cpp (CPU) and affine.cu (CUDA); the reference is ops/affine.py.
//
// A pixel of what is seen shows a place of the image, given by an affine map and folded back into the image at its
// edges, as the mean of the four pixels around it by nearness. The adjoint brings values the same way back. Neither adds
// floats in an order that chance or the number of threads decides.
#pragma once

#include <cmath>
#include <cstdint>

#include "numbers.h"

namespace classmodels {

// How far apart the elements of a batch of images lie.
struct Apart {
  int64_t image, channel, row, column;
};

struct Affine {
  float* image;  // what is looked at; the adjoint writes it
  float* seen;  // what it looks like; the adjoint reads it
  const float* maps;  // [images, 2, 3]
  Apart image_apart, seen_apart;
  int64_t images, channels, height, width;
};

// A place between two pixels of a row, or of a column: how near it is to the second one. There is always a second;
// beyond the last pixel it is the last itself, and of no weight.
struct Between {
  int32_t first, second;
  float near;
};

// `place`, counted from the centre of `size` pixels, folded back into them: the edges, half a pixel outside of the
// outermost centres, are mirrors, and what is between an edge and a centre shows that centre.
HOST_DEVICE ALWAYS_INLINE Between between(float place, int32_t size) {
  const float side = static_cast<float>(size), last = side - 1, period = 2 * side;
  float away = fabsf(place + 0.5f * side);
  away -= period * floorf(away * (1 / period));
  away = (away > side ? period - away : away) - 0.5f;
  // A map that is not finite gives the first pixel: no index leaves the image.
  const float inside = away > 0 ? (away < last ? away : last) : 0.0f;
  const int32_t first = static_cast<int32_t>(inside);
  return {first, first + 1 < size ? first + 1 : first, inside - static_cast<float>(first)};
}

// The place shown at (column, row), both from the centre, along the axis whose row of the map is m.
HOST_DEVICE ALWAYS_INLINE float place_of(const float* m, float column, float row) {
  return m[0] * column + m[1] * row + m[2];
}

// Where the centre lies, counted from the first pixel.
HOST_DEVICE ALWAYS_INLINE float centre_of(int64_t size) { return 0.5f * static_cast<float>(size - 1); }

void affine_cpu(const Affine& affine);
void affine_adjoint_cpu(const Affine& affine);
// On `stream`, a cudaStream_t. Return null, or what CUDA says is wrong.
const char* affine_cuda(const Affine& affine, void* stream);
const char* affine_adjoint_cuda(const Affine& affine, void* stream);

}  // namespace classmodels
