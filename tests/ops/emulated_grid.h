// CUDA's words for a host compiler: a grid that runs on the CPU, one thread of one block at a time.
//
// The threads of a block are fibers; where all of them must meet (__syncthreads, a shuffle) each hands on to the next.
// Slow and simple: it shows that every index is right, under AddressSanitizer if one likes, without a GPU.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

using std::isfinite;

struct Place {
  unsigned x, y, z;
};

namespace grid {

inline Place thread, block;
inline std::vector<ucontext_t> fibers;
inline std::vector<char> done;
inline ucontext_t scheduler;
inline const std::function<void()>* body;

// Everything the block's threads wrote before this, all of them see after it.
inline void meet() {
  const Place mine = thread;
  swapcontext(&fibers[mine.x], &scheduler);
  thread = mine;
}

inline void run_fiber() {
  (*body)();
  done[thread.x] = 1;
}

inline void run_block(unsigned threads, const std::function<void()>& kernel) {
  constexpr size_t kStack = 64 << 10;
  static std::vector<char> stacks;
  stacks.resize(threads * kStack);
  fibers.assign(threads, {});
  done.assign(threads, 0);
  body = &kernel;
  for (unsigned t = 0; t < threads; ++t) {
    getcontext(&fibers[t]);
    fibers[t].uc_stack.ss_sp = &stacks[t * kStack];
    fibers[t].uc_stack.ss_size = kStack;
    fibers[t].uc_link = &scheduler;
    makecontext(&fibers[t], run_fiber, 0);
  }
  for (unsigned left = threads; left;) {
    left = 0;
    for (unsigned t = 0; t < threads; ++t) {
      if (done[t]) continue;
      thread = {t, 0, 0};
      swapcontext(&scheduler, &fibers[t]);
      left += !done[t];
    }
  }
}

}  // namespace grid

#define threadIdx grid::thread
#define blockIdx grid::block

inline void __syncthreads() { grid::meet(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  static T exchanged[1024];
  const unsigned mine = threadIdx.x;
  exchanged[mine] = value;
  grid::meet();
  const T other = exchanged[mine ^ static_cast<unsigned>(mask)];
  grid::meet();
  return other;
}

inline double __longlong_as_double(long long bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}

namespace classmodels {

template <typename... Parameters>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, void*, Parameters... arguments) {
  constexpr unsigned kThreadsOfABlock = 256;
  for (int64_t b = 0; b < blocks; ++b) {
    grid::block = {static_cast<unsigned>(b), 0, 0};
    grid::run_block(kThreadsOfABlock, [&] { kernel(arguments...); });
  }
  return nullptr;
}

}  // namespace classmodels
