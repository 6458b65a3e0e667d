// The step on CUDA, in two launches: partial sums of the gradients' squares, then the update, in which every warp
// adds up its image's partial sums for itself. No atomics: the same input gives the same bits.
//
// An image that has failed, now or before, has a NaN among its partial sums; so only one thread writes its flag, and
// none reads it meanwhile.
#include "step.h"

#include "grid.cuh"

namespace classmodels {
namespace {

constexpr int kElements = kThreads * kFour;  // of a block of `update`

__device__ __forceinline__ double not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }

template <typename G>
__global__ void __launch_bounds__(kThreads) squares(Step s, int64_t span, int64_t partials) {
  const int64_t image = blockIdx.x / partials, index = blockIdx.x % partials;
  const int64_t begin = index * span;
  const int64_t end = begin + span < s.elements ? begin + span : s.elements;
  const G* g = static_cast<const G*>(s.g) + image * s.elements;
  double sum = 0;
  if (s.failed[image]) {
    sum = not_a_number();
  } else {
    for (int64_t i = begin + threadIdx.x * kFour; i < end; i += kElements) {
      float value[kFour] = {};
      load(value, g + i, end - i < kFour ? static_cast<int>(end - i) : kFour);
#pragma unroll
      for (int k = 0; k < kFour; ++k) sum += static_cast<double>(value[k]) * value[k];
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) s.partial[blockIdx.x] = sum;
}

// The gradient of TV at element (row, column) of a plane. `here` points to it.
template <typename Index>
__device__ __forceinline__ float tv_gradient(
    const float* here, Index row, Index column, Index rows, Index length, Index apart) {
  const bool right = column + apart < length, below = row + 1 < rows, left = column >= apart, above = row > 0;
  const float x = *here;
  const float dx = right ? here[apart] - x : 0.0f, dy = below ? here[length] - x : 0.0f;
  float gradient = -(dx + dy) * inverse_length(dx, dy);
  if (left) {
    const float* l = here - apart;
    const float across = x - *l;
    gradient += across * inverse_length(across, below ? l[length] - *l : 0.0f);
  }
  if (above) {
    const float* a = here - length;
    const float down = x - *a;
    gradient += down * inverse_length(right ? a[apart] - *a : 0.0f, down);
  }
  return gradient;
}

// Index is 32 bits wide where an image's elements allow it: divisions by 64 bits are slow.
template <typename G, bool kTv, typename Index>
__global__ void __launch_bounds__(kThreads) update(Step s, int64_t blocks, int partials) {
  const int64_t image = blockIdx.x / blocks;
  const int64_t start = image * s.elements;
  const int64_t first = (blockIdx.x % blocks) * kElements + threadIdx.x * kFour;
  const int count = first >= s.elements ? 0 : s.elements - first < kFour ? static_cast<int>(s.elements - first) : kFour;

  // All loads are under way before anything waits.
  float x[kFour] = {}, g[kFour] = {}, m[kFour] = {}, v[kFour] = {};
  load(x, s.x + start + first, count);
  load(g, static_cast<const G*>(s.g) + start + first, count);
  if (s.m) load(m, s.m + start + first, count);
  if (s.v) load(v, s.v + start + first, count);

  double squares = 0;
  for (int i = threadIdx.x % kWarp; i < partials; i += kWarp) squares += s.partial[image * partials + i];
  squares = warp_sum(squares);
  if (!isfinite(squares)) {
    if (first == 0) s.failed[image] = true;
    if (kTv) store(s.out + start + first, x, count);
    return;
  }
  if (count == 0) return;

  const Scale scale = scale_of(squares, s.norm, s.elements);
  // The other factor comes later: to keep both until then makes some architectures spill registers.
#pragma unroll
  for (int k = 0; k < kFour; ++k) g[k] *= scale.power;
  const float* row_of = s.coefficients + image * s.coefficients_stride;
  const Rates rates(Coefficients{
      row_of[0], row_of[1], row_of[2], row_of[3], row_of[4], row_of[5], row_of[6], row_of[7], row_of[8], row_of[9]});
  const Index length = static_cast<Index>(s.length), rows = static_cast<Index>(s.rows);
  const Index channels = static_cast<Index>(s.channels), apart = static_cast<Index>(s.apart);
  const bool interleaved = s.planes == 1;
  // Where the first of the four lies: its row, counted through all planes, and its column.
  Index row = static_cast<Index>(first) / length, column = static_cast<Index>(first) % length;
#pragma unroll
  for (int k = 0; k < kFour; ++k) {
    if (k < count) {
      const Index channel = interleaved ? column % channels : row / rows;
      const float pull = kTv
          ? tv_gradient(s.x + start + first + k, row % rows, column, rows, length, apart)
          : 0.0f;
      const float low = s.low[channel], high = s.high[channel], x0 = s.x0[channel];
      if (s.v) {
        x[k] = moved<true, true, kTv>(x[k], g[k] * scale.rest, m[k], v[k], pull, x0, low, high, rates);
      } else if (s.m) {
        x[k] = moved<true, false, kTv>(x[k], g[k] * scale.rest, m[k], v[k], pull, x0, low, high, rates);
      } else {
        x[k] = moved<false, false, kTv>(x[k], g[k] * scale.rest, m[k], v[k], pull, x0, low, high, rates);
      }
    }
    if (++column == length) column = 0, ++row;
  }
  store((kTv ? s.out : s.x) + start + first, x, count);
  if (s.m) store(s.m + start + first, m, count);
  if (s.v) store(s.v + start + first, v, count);
}

template <typename G>
const char* run(const Step& s, void* stream) {
  const int64_t partials = partials_of(s.elements), blocks = (s.elements + kElements - 1) / kElements;
  const char* error = launch(squares<G>, s.images * partials, stream, s, span_of(s.elements), partials);
  if (error) return error;
  // The last index of a block may lie beyond the image's end.
  const bool small = s.elements < INT32_MAX - kElements;
  const auto kernel = s.out ? (small ? update<G, true, uint32_t> : update<G, true, uint64_t>)
                            : (small ? update<G, false, uint32_t> : update<G, false, uint64_t>);
  return launch(kernel, s.images * blocks, stream, s, blocks, static_cast<int>(partials));
}

}  // namespace

const char* step_cuda(const Step& s, void* stream) {
  if (s.g_type == Number::kBfloat16) return run<Bfloat16>(s, stream);
  if (s.g_type == Number::kHalf) return run<Half>(s, stream);
  return run<float>(s, stream);
}

}  // namespace classmodels
