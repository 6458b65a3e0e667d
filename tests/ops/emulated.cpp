// The launchers of csrc/*.cu for ctypes, when those are compiled for the emulated grid (emulated_grid.h): plain
// pointers and sizes in, null or a message out. What operators.cpp works out from tensors is worked out here again.
#include "affine.h"
#include "filters.h"
#include "step.h"

using namespace classmodels;

extern "C" {

struct Sizes {
  int64_t images, channels, height, width;
  bool channels_last;
};

int64_t partials(int64_t elements) { return partials_of(elements); }

const char* step(
    Sizes n, float* x, const void* g, int64_t g_type, float* m, float* v, float* out, bool* failed, double* partial,
    const float* coefficients, int64_t rows_of_coefficients, const float* x0, const float* low, const float* high,
    int64_t norm) {
  Step s{};
  s.x = x, s.g = g, s.g_type = static_cast<Number>(g_type), s.m = m, s.v = v, s.out = out, s.failed = failed;
  s.partial = partial, s.coefficients = coefficients, s.x0 = x0, s.low = low, s.high = high;
  s.coefficients_stride = rows_of_coefficients == 1 ? 0 : kCoefficients;
  s.norm = static_cast<Norm>(norm);
  s.images = n.images, s.channels = n.channels, s.elements = n.channels * n.height * n.width;
  s.planes = n.channels_last ? 1 : n.channels, s.apart = n.channels_last ? n.channels : 1;
  s.rows = out ? n.height : 1;
  s.length = n.height * n.width / s.rows * s.apart;
  return step_cuda(s, nullptr);
}

const char* blur(
    Sizes n, float* x, float* scratch, const float* across, int64_t across_radius, const float* down,
    int64_t down_radius, const bool* failed) {
  Blur b{};
  b.x = x, b.scratch = scratch, b.across = across, b.down = down, b.failed = failed;
  b.across_radius = across_radius, b.down_radius = down_radius;
  b.images = n.images, b.planes = n.channels_last ? 1 : n.channels, b.apart = n.channels_last ? n.channels : 1;
  b.rows = n.height, b.columns = n.width;
  return blur_cuda(b, nullptr);
}

const char* clip(
    Sizes n, float* x, const void* g, int64_t g_type, float* worth, const bool* failed, const float* x0, int64_t rank) {
  Clip c{};
  c.x = x, c.g = g, c.g_type = static_cast<Number>(g_type), c.worth = worth, c.failed = failed, c.x0 = x0;
  c.rank = rank, c.images = n.images, c.channels = n.channels, c.pixels = n.height * n.width;
  c.pixel_apart = n.channels_last ? n.channels : 1, c.channel_apart = n.channels_last ? 1 : c.pixels;
  return clip_cuda(c, nullptr);
}

// n is how the image lies; what is seen lies in channels_last if asked for.
const char* affine(Sizes n, float* image, float* seen, const float* maps, int64_t seen_channels_last, int64_t adjoint) {
  const auto apart = [&](bool channels_last) {
    const int64_t column = channels_last ? n.channels : 1;
    return Apart{n.channels * n.height * n.width, channels_last ? 1 : n.height * n.width, n.width * column, column};
  };
  const Affine a{image, seen, maps, apart(n.channels_last), apart(seen_channels_last), n.images, n.channels, n.height, n.width};
  return adjoint ? affine_adjoint_cuda(a, nullptr) : affine_cuda(a, nullptr);
}
}
