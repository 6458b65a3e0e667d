// What the CUDA kernels share: how they are launched, how four neighbouring elements are read and written at once,
// how a warp and a block add up. With -DEMULATED_GRID the same sources compile for a host, which runs the grid
// thread by thread (tests/ops/emulated_grid.h): so index arithmetic is tested where there is no GPU.
#pragma once

#include <cstdint>

#ifdef EMULATED_GRID
#include "emulated_grid.h"
#else
#include <cuda_runtime.h>
#endif

#include "numbers.h"

namespace classmodels {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kFour = 4;  // elements of a thread: 16 bytes of float

#ifndef EMULATED_GRID
// Runs `kernel` on `blocks` blocks of kThreads threads. Returns null, or what CUDA says is wrong.
template <typename... Parameters>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, void* stream, Parameters... arguments) {
  if (blocks > INT32_MAX) return "too many elements for one launch";
  void* pointers[] = {&arguments...};
  const auto error = cudaLaunchKernel(
      reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)), dim3(kThreads), pointers, 0,
      static_cast<cudaStream_t>(stream));
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
#endif

template <typename T>
struct alignas(kFour * sizeof(T)) Four {
  T value[kFour];
};

// Whether groups of four from `begin` on lie on the boundaries that wide accesses need.
template <typename T>
__device__ __forceinline__ bool wide(const T* begin) {
  return reinterpret_cast<uintptr_t>(begin) % (kFour * sizeof(T)) == 0;
}

// Elements [0, count) of `from`, at most four of them, as floats; the rest stays as it is.
template <typename T>
__device__ __forceinline__ void load(float (&to)[kFour], const T* from, int count) {
  if (count >= kFour && wide(from)) {
    const Four<T> four = *reinterpret_cast<const Four<T>*>(from);
#pragma unroll
    for (int k = 0; k < kFour; ++k) to[k] = to_float(four.value[k]);
  } else {
#pragma unroll
    for (int k = 0; k < kFour; ++k)
      if (k < count) to[k] = to_float(from[k]);
  }
}

__device__ __forceinline__ void store(float* to, const float (&from)[kFour], int count) {
  if (count >= kFour && wide(to)) {
    *reinterpret_cast<Four<float>*>(to) = Four<float>{{from[0], from[1], from[2], from[3]}};
  } else {
#pragma unroll
    for (int k = 0; k < kFour; ++k)
      if (k < count) to[k] = from[k];
  }
}

// The sum over a warp, the same in every thread and every time.
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
  for (int offset = kWarp / 2; offset; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// The sum over a block, valid in the first warp.
__device__ __forceinline__ double block_sum(double value) {
  __shared__ double sums[kThreads / kWarp];
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = value;
  __syncthreads();
  return warp_sum(threadIdx.x < kThreads / kWarp ? sums[threadIdx.x] : 0.0);
}

}  // namespace classmodels
