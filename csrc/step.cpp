// The step on the CPU: vectorised over elements, parallel over images or, where there are few, over parts of them.
//
// An image's elements are walked in tiles short enough to keep what a tile needs beside the streams (the channels'
// x0 and box, TV's differences) in the first-level cache.
#include "step.h"

#include <algorithm>
#include <limits>

#include <torch/csrc/stable/ops.h>

#include "cpu.h"

namespace classmodels {
namespace {

constexpr int64_t kTile = kMostChannels;
constexpr int64_t kLine = 64 / sizeof(float);
constexpr int64_t kFetch = 8 * kLine;
constexpr int64_t kBand = 16384;  // elements of one unit of work where an image is shared between threads

// Elements [begin, begin + count) of a gradient as floats: in place, or converted into `buffer`.
ALWAYS_INLINE const float* load(const void* g, Number type, int64_t begin, int64_t count, float* buffer) {
  if (type == Number::kFloat) return static_cast<const float*>(g) + begin;
  if (type == Number::kBfloat16) {
    const auto* from = static_cast<const Bfloat16*>(g) + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) buffer[i] = to_float(from[i]);
  } else {
    const auto* from = static_cast<const Half*>(g) + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) buffer[i] = to_float(from[i]);
  }
  return buffer;
}

// The sum of squares of elements [begin, end), in double: it does not overflow. The order of the additions is fixed,
// whatever the width of the variant: eight values by eight columns of a tile, then the columns in halves.
ALWAYS_INLINE void squares_body(const void* g, Number type, int64_t begin, int64_t end, double* sum) {
  constexpr int64_t kColumns = kTile / 8;
  float buffer[kTile];
  double columns[kColumns], total = 0;
  for (int64_t start = begin; start < end; start += kTile) {
    const int64_t count = std::min(kTile, end - start);
    const float* value = load(g, type, start, count, buffer);
    if (count < kTile) {
      if (value != buffer) std::copy_n(value, count, buffer);
      std::fill(buffer + count, buffer + kTile, 0.0f);
      value = buffer;
    }
#pragma omp simd
    for (int64_t j = 0; j < kColumns; ++j) {
      double column = 0;
      for (int64_t row = 0; row < 8; ++row) {
        const double each = value[row * kColumns + j];
        column += each * each;
      }
      columns[j] = column;
    }
    for (int64_t width = kColumns / 2; width; width /= 2) {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) columns[j] += columns[j + width];
    }
    total += columns[0];
  }
  *sum = total;
}
VARIANTS(squares, (const void* g, Number type, int64_t begin, int64_t end, double* sum), (g, type, begin, end, sum))

// A part of an image: rows [top, bottom) and columns [left, right) of one plane.
struct Part {
  int64_t plane, top, bottom, left, right;
};

struct Image {
  const float* x;
  float* out;  // x itself where the step is in place
  const void* g;
  float* m;
  float* v;
  Scale scale;
  Rates rates;
};

// A block is `count` elements that follow one another in memory: several whole rows, or a stretch of one.
struct Block {
  int64_t row, rows, left, width, count;
};

// Streams that are about to be wanted, element for element with a block: fetched while the flow, which is all
// arithmetic, is computed.
struct Soon {
  const float* streams[4];
  int count;
};

// grad TV needs the flow (dx, dy) / |(dx, dy)| of the block and, across, of the elements just left of it.
// across[k] and down[k] are those of the block's element k; the ones just left of it are at across[-apart] and on.
ALWAYS_INLINE void flow(
    const Step& s, const float* plane, const Block& b, const Soon& soon, float* across, float* down) {
  const float* here = plane + b.row * s.length + b.left;
  for (int64_t k = -s.apart; k < 0; ++k) {
    const bool inside = b.left > 0;
    const float dx = inside ? here[k + s.apart] - here[k] : 0;
    const float dy = inside && b.row + 1 < s.rows ? here[k + s.length] - here[k] : 0;
    across[k] = dx * inverse_length(dx, dy);
  }
  const bool last_column = b.left + b.width == s.length, last_row = b.row + b.rows == s.rows;
  const int64_t end = last_column ? b.count - s.apart : b.count;
  const int64_t with_below = std::min(last_row ? b.count - b.width : b.count, end);
  for (int64_t start = 0; start < with_below; start += kFetch) {
    const int64_t stop = std::min(start + kFetch, with_below);
    for (int i = 0; i < soon.count; ++i)
      for (int64_t k = start; k < stop; k += kLine) __builtin_prefetch(soon.streams[i] + k);
#pragma omp simd
    for (int64_t k = start; k < stop; ++k) {
      const float dx = here[k + s.apart] - here[k], dy = here[k + s.length] - here[k];
      const float inverse = inverse_length(dx, dy);
      across[k] = dx * inverse;
      down[k] = dy * inverse;
    }
  }
#pragma omp simd
  for (int64_t k = with_below; k < end; ++k) {
    const float dx = here[k + s.apart] - here[k];
    across[k] = dx * inverse_length(dx, 0);
    down[k] = 0;
  }
  if (!last_column) return;
  for (int64_t row = 0; row < b.rows; ++row) {  // nothing is right of the last column
    for (int64_t k = (row + 1) * b.width - s.apart; k < (row + 1) * b.width; ++k) {
      const float dy = b.row + row + 1 < s.rows ? here[k + s.length] - here[k] : 0;
      across[k] = 0;
      down[k] = dy * inverse_length(0, dy);
    }
  }
}

template <bool kMomentum, bool kAdam, bool kTv>
ALWAYS_INLINE void walk(const Step& s, const Image& image, const Part& part) {
  // Every block begins at the same channel, so that the channels' values are laid out once.
  const int64_t tile = kTile / s.apart * s.apart;
  const int64_t most_rows = s.length <= tile && part.left == 0 && part.right == s.length ? tile / s.length : 1;
  alignas(64) float x0[kTile], low[kTile], high[kTile], buffer[kTile];
  alignas(64) float flows[2 * kTile], down[2 * kTile];  // down: of the row above the block, then of the block
  float* across = flows + kTile;
  const bool interleaved = s.planes == 1;
  for (int64_t k = 0; k < std::min(tile, most_rows * (part.right - part.left)); ++k) {
    const int64_t channel = interleaved ? k % s.channels : part.plane;
    x0[k] = s.x0[channel], low[k] = s.low[channel], high[k] = s.high[channel];
  }
  const Rates rates = image.rates;
  const Scale scale = image.scale;
  const int64_t plane = part.plane * s.rows * s.length, apart = s.apart;
  for (int64_t left = part.left; left < part.right; left += tile) {
    const int64_t width = std::min(tile, part.right - left);
    if (kTv) {
      std::fill_n(down, width, 0.0f);
      if (part.top > 0) flow(s, image.x + plane, {part.top - 1, 1, left, width, width}, {}, across, down);
    }
    for (int64_t row = part.top; row < part.bottom; row += most_rows) {
      const int64_t rows = std::min(most_rows, part.bottom - row), count = rows * width;
      const int64_t begin = plane + row * s.length + left;
      const float* x = image.x + begin;
      float* out = image.out + begin;
      float* m = kMomentum ? image.m + begin : buffer;
      float* v = kAdam ? image.v + begin : buffer;
      if (kTv) {
        const Soon soon{{x + count + s.length, out, m, v}, kAdam ? 4 : kMomentum ? 3 : 2};
        flow(s, image.x + plane, {row, rows, left, width, count}, soon, across, down + width);
      }
      const float* g = load(image.g, s.g_type, begin, count, buffer);
#pragma omp simd
      for (int64_t k = 0; k < count; ++k) {
        float mk = kMomentum ? m[k] : 0, vk = kAdam ? v[k] : 0;
        const float pull = kTv ? across[k - apart] - across[k] + down[k] - down[k + width] : 0;
        out[k] = moved<kMomentum, kAdam, kTv>(x[k], scale(g[k]), mk, vk, pull, x0[k], low[k], high[k], rates);
        if (kMomentum) m[k] = mk;
        if (kAdam) v[k] = vk;
      }
      if (kTv) std::copy_n(down + count, width, down);
    }
  }
}

template <bool kTv>
ALWAYS_INLINE void walk_any(const Step& s, const Image& image, const Part& part) {
  if (image.v) return walk<true, true, kTv>(s, image, part);
  if (image.m) return walk<true, false, kTv>(s, image, part);
  return walk<false, false, kTv>(s, image, part);
}

ALWAYS_INLINE void update_body(const Step& s, const Image& image, const Part& part) {
  if (s.out) return walk_any<true>(s, image, part);
  return walk_any<false>(s, image, part);
}
VARIANTS(update, (const Step& s, const Image& image, const Part& part), (s, image, part))

const void* gradient_of(const Step& s, int64_t n) {
  return static_cast<const char*>(s.g) + n * s.elements * (s.g_type == Number::kFloat ? 4 : 2);
}

Image image_of(const Step& s, int64_t n, Scale scale) {
  const int64_t begin = n * s.elements;
  Coefficients c;
  memcpy(&c, s.coefficients + n * s.coefficients_stride, sizeof c);
  return {s.x + begin, (s.out ? s.out : s.x) + begin, gradient_of(s, n), s.m ? s.m + begin : nullptr,
          s.v ? s.v + begin : nullptr, scale, Rates(c)};
}

void sum_span(const Step& s, int64_t n, int64_t index) {
  const int64_t span = span_of(s.elements), begin = index * span;
  double* sum = s.partial + n * partials_of(s.elements) + index;
  if (s.failed[n]) return;
  squares(gradient_of(s, n), s.g_type, begin, std::min(begin + span, s.elements), sum);
}

// The image's scale; a failed image has none, and one whose gradient is not finite fails now.
bool scale_image(const Step& s, int64_t n, Scale* scale) {
  if (s.failed[n]) return false;
  const int64_t count = partials_of(s.elements);
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += s.partial[n * count + i];
  s.failed[n] = !(total <= std::numeric_limits<double>::max());
  *scale = scale_of(total, s.norm, s.elements);
  return !s.failed[n];
}

void keep(const Step& s, int64_t n) {
  if (s.out) std::copy_n(s.x + n * s.elements, s.elements, s.out + n * s.elements);
}

// Each thread takes whole images: what the sum of squares has read is still in its cache when the update wants it.
void step_by_image(const Step& s) {
  torch::stable::parallel_for(0, s.images, 1, [&s](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      for (int64_t i = 0; i < partials_of(s.elements); ++i) sum_span(s, n, i);
      Scale scale;
      if (!scale_image(s, n, &scale)) {
        keep(s, n);
        continue;
      }
      const Image image = image_of(s, n, scale);
      for (int64_t plane = 0; plane < s.planes; ++plane) update(s, image, {plane, 0, s.rows, 0, s.length});
    }
  });
}

// Few images: all threads share each of them, in bands of whole rows or, of one long row, of columns.
void step_by_band(const Step& s) {
  const int64_t partials = partials_of(s.elements);
  torch::stable::parallel_for(0, s.images * partials, 1, [&s, partials](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) sum_span(s, i / partials, i % partials);
  });
  const bool by_rows = s.rows > 1;
  const int64_t size = by_rows ? std::max<int64_t>(kBand / s.length, 1) : kBand / s.apart * s.apart;
  const int64_t extent = by_rows ? s.rows : s.length, bands = (extent + size - 1) / size;
  for (int64_t n = 0; n < s.images; ++n) {
    Scale scale;
    if (!scale_image(s, n, &scale)) {
      keep(s, n);
      continue;
    }
    const Image image = image_of(s, n, scale);
    torch::stable::parallel_for(0, s.planes * bands, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t begin = i % bands * size, end = std::min(begin + size, extent);
        update(s, image, by_rows ? Part{i / bands, begin, end, 0, s.length} : Part{i / bands, 0, 1, begin, end});
      }
    });
  }
}

}  // namespace

void step_cpu(const Step& s) {
  const int64_t threads = torch::stable::get_num_threads();
  if (s.images % threads == 0 || s.images >= 4 * threads) return step_by_image(s);
  step_by_band(s);
}

}  // namespace classmodels
