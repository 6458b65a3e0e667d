// The periodic regularizers on the CPU: vectorised over elements, parallel over planes or, where there are few, over
// rows and stretches of pixels.
#include "filters.h"

#include <algorithm>

#include <torch/csrc/stable/ops.h>

#include "cpu.h"

namespace classmodels {
namespace {

// ---- blur

constexpr int64_t kBuffer = 4096;  // floats of a row beyond whose ends its reflection is laid out

// Where tap j of a sum finds its elements.
struct Beside {
  const float* first;
  int64_t apart;
  ALWAYS_INLINE const float* tap(int64_t j) const { return first + j * apart; }
};
struct Below {
  const float* plane;
  int64_t row, rows, length;
  ALWAYS_INLINE const float* tap(int64_t j) const { return plane + reflected(row + j, rows) * length; }
};

// sum[k] += weights[0] * from.tap(0)[k] + weights[1] * from.tap(1)[k] + ...
template <typename Source>
ALWAYS_INLINE void add(float* __restrict sum, const Source& from, const float* weights, int64_t taps, int64_t count) {
  int64_t j = 0;
  for (; j + kGroup <= taps; j += kGroup) {
    const float* of[kGroup];
    for (int i = 0; i < kGroup; ++i) of[i] = from.tap(j + i);
    const float* w = weights + j;
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      float group = 0;
      for (int i = 0; i < kGroup; ++i) group += w[i] * of[i][k];
      sum[k] += group;
    }
  }
  for (; j < taps; ++j) {
    const float* a = from.tap(j);
    const float wa = weights[j];
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) sum[k] += wa * a[k];
  }
}

// Elements [begin, begin + count) of a row, which goes on beyond its ends as its reflection.
ALWAYS_INLINE void extend(const Blur& b, const float* row, int64_t begin, int64_t count, float* __restrict to) {
  int64_t column = begin >= 0 ? begin / b.apart : -((b.apart - 1 - begin) / b.apart);
  int64_t channel = begin - column * b.apart;
  while (count > 0) {
    const bool inside = column >= 0 && column < b.columns;
    const int64_t columns = inside ? b.columns - column : 1;
    const int64_t run = std::min(columns * b.apart - channel, count);
    const float* from = row + reflected(column, b.columns) * b.apart + channel;
    for (int64_t k = 0; k < run; ++k) to[k] = from[k];
    to += run, count -= run, column += columns, channel = 0;
  }
}

// Rows [first, last), counted through all planes of all images.
ALWAYS_INLINE void across_body(const Blur& b, int64_t first, int64_t last) {
  const int64_t length = b.length(), taps = 2 * b.across_radius + 1;
  // How many taps fit into half of the buffer, and how many sums into the rest.
  const int64_t most = std::min(taps, std::max<int64_t>(kBuffer / 2 / b.apart, 1));
  const int64_t width = kBuffer - (most - 1) * b.apart;
  float buffer[kBuffer];
  for (int64_t row = first; row < last; ++row) {
    if (b.failed[row / (b.planes * b.rows)]) continue;
    const float* x = b.x + row * length;
    float* sum = b.scratch + row * length;
    for (int64_t left = 0; left < length; left += width) {
      const int64_t count = std::min(width, length - left);
      std::fill_n(sum + left, count, 0.0f);
      for (int64_t j = 0; j < taps; j += most) {
        const int64_t some = std::min(most, taps - j);
        extend(b, x, left + (j - b.across_radius) * b.apart, count + (some - 1) * b.apart, buffer);
        add(sum + left, Beside{buffer, b.apart}, b.across + j, some, count);
      }
    }
  }
}
VARIANTS(across, (const Blur& b, int64_t first, int64_t last), (b, first, last))

ALWAYS_INLINE void down_body(const Blur& b, int64_t first, int64_t last) {
  const int64_t length = b.length(), taps = 2 * b.down_radius + 1;
  for (int64_t row = first; row < last; ++row) {
    if (b.failed[row / (b.planes * b.rows)]) continue;
    const int64_t inside = row % b.rows;
    float* sum = b.x + row * length;
    std::fill_n(sum, length, 0.0f);
    add(sum, Below{b.scratch + (row - inside) * length, inside - b.down_radius, b.rows, length}, b.down, taps, length);
  }
}
VARIANTS(down, (const Blur& b, int64_t first, int64_t last), (b, first, last))

// ---- clip

constexpr int64_t kTile = 512;     // pixels whose sums are under way together
constexpr int64_t kBand = 1 << 14;  // pixels of one unit of work

template <typename G>
ALWAYS_INLINE void worth_tile(const Clip& c, const float* x, const G* g, int64_t count, float* worth) {
  double sum[kTile];
  std::fill_n(sum, count, 0.0);
  for (int64_t channel = 0; channel < c.channels; ++channel) {
    const float x0 = c.x0[channel];
    const int64_t begin = channel * c.channel_apart, apart = c.pixel_apart;
    if (apart == 1) {
#pragma omp simd
      for (int64_t k = 0; k < count; ++k)
        sum[k] += g ? term(x[begin + k], x0, to_float(g[begin + k])) : term(x[begin + k], x0);
    } else {
#pragma omp simd
      for (int64_t k = 0; k < count; ++k)
        sum[k] += g ? term(x[begin + k * apart], x0, to_float(g[begin + k * apart])) : term(x[begin + k * apart], x0);
    }
  }
#pragma omp simd
  for (int64_t k = 0; k < count; ++k) worth[k] = worth_of(sum[k], !g);
}

template <typename G>
ALWAYS_INLINE void worth_band(const Clip& c, int64_t n, int64_t first, int64_t last) {
  for (int64_t pixel = first; pixel < last; pixel += kTile) {
    const int64_t begin = n * c.elements() + pixel * c.pixel_apart;
    const G* g = c.g ? static_cast<const G*>(c.g) + begin : nullptr;
    float* worth = c.worth + n * (c.pixels + 1) + pixel;
    worth_tile(c, c.x + begin, g, std::min(kTile, last - pixel), worth);
  }
}

// The worth of pixels [first, last) of image n.
ALWAYS_INLINE void worth_body(const Clip& c, int64_t n, int64_t first, int64_t last) {
  if (c.g_type == Number::kBfloat16) return worth_band<Bfloat16>(c, n, first, last);
  if (c.g_type == Number::kHalf) return worth_band<Half>(c, n, first, last);
  return worth_band<float>(c, n, first, last);
}
VARIANTS(worth, (const Clip& c, int64_t n, int64_t first, int64_t last), (c, n, first, last))

ALWAYS_INLINE void select_body(const float* worth, int64_t pixels, int64_t rank, float* threshold) {
  uint32_t known = 0;
  for (int digit = 0; digit < kDigits; ++digit) {
    const uint32_t one = with_digit(known, digit, 1), two = with_digit(known, digit, 2), three = with_digit(known, digit, 3);
    uint32_t below_one = 0, below_two = 0, below_three = 0;
#pragma omp simd reduction(+ : below_one, below_two, below_three)
    for (int64_t p = 0; p < pixels; ++p) {
      const uint32_t bits = bits_of(worth[p]);
      below_one += bits < one, below_two += bits < two, below_three += bits < three;
    }
    known = with_digit(known, digit, digit_of({below_one, below_two, below_three}, rank));
  }
  *threshold = float_from_bits(known);
}
VARIANTS(select, (const float* worth, int64_t pixels, int64_t rank, float* threshold), (worth, pixels, rank, threshold))

ALWAYS_INLINE void apply_body(const Clip& c, int64_t n) {
  const float* worth = c.worth + n * (c.pixels + 1);
  const float threshold = worth[c.pixels];
  float* x = c.x + n * c.elements();
  if (c.pixel_apart == 1) {
    for (int64_t channel = 0; channel < c.channels; ++channel, x += c.channel_apart) {
      const float x0 = c.x0[channel];
#pragma omp simd
      for (int64_t p = 0; p < c.pixels; ++p) x[p] = worth[p] <= threshold ? x0 : x[p];
    }
  } else {
    for (int64_t p = 0; p < c.pixels; ++p, x += c.pixel_apart)
      if (worth[p] <= threshold)
        for (int64_t channel = 0; channel < c.channels; ++channel) x[channel * c.channel_apart] = c.x0[channel];
  }
}
VARIANTS(apply, (const Clip& c, int64_t n), (c, n))

}  // namespace

void blur_cpu(const Blur& b) {
  const int64_t threads = torch::stable::get_num_threads(), planes = b.images * b.planes;
  if (planes % threads == 0 || planes >= 4 * threads) {
    // What one pass over a plane has written is still in the cache when the other reads it.
    torch::stable::parallel_for(0, planes, 1, [&b](int64_t first, int64_t last) {
      for (int64_t row = first * b.rows; row < last * b.rows; row += b.rows) {
        across(b, row, row + b.rows);
        down(b, row, row + b.rows);
      }
    });
  } else {
    const auto rows = [&](auto pass) { torch::stable::parallel_for(0, planes * b.rows, 1, pass); };
    rows([&b](int64_t first, int64_t last) { across(b, first, last); });
    rows([&b](int64_t first, int64_t last) { down(b, first, last); });
  }
}

void clip_cpu(const Clip& c) {
  const int64_t bands = (c.pixels + kBand - 1) / kBand;
  torch::stable::parallel_for(0, c.images * bands, 1, [&c, bands](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = i % bands * kBand;
      if (!c.failed[i / bands]) worth(c, i / bands, begin, std::min(begin + kBand, c.pixels));
    }
  });
  torch::stable::parallel_for(0, c.images, 1, [&c](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      if (c.failed[n]) continue;
      float* of_image = c.worth + n * (c.pixels + 1);
      select(of_image, c.pixels, c.rank, of_image + c.pixels);
      apply(c, n);
    }
  });
}

}  // namespace classmodels
