// The border between tensors and the kernels' plain pointers: every argument is checked here, once, and a message
// says which one, what was found and what was expected.
#pragma once

#include <optional>
#include <sstream>
#include <string>

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "numbers.h"

namespace classmodels {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_of(const Tensor& t) {
  std::ostringstream text;
  text << "[";
  for (int64_t i = 0; i < t.dim(); ++i) text << (i ? ", " : "") << t.size(i);
  text << "]";
  return text.str();
}

// Whether t [N, C, H, W] lies in memory without gaps in the order of dimensions that `order` gives, outermost first.
inline bool lies(const Tensor& t, const int (&order)[4]) {
  int64_t expected = 1;
  for (int i = 3; i >= 0; --i) {
    const int64_t size = t.size(order[i]);
    if (size != 1 && t.stride(order[i]) != expected) return false;
    expected *= size;
  }
  return true;
}

// Whether t [rows, columns] is contiguous.
inline bool lies_in_rows(const Tensor& t) {
  return t.numel() == 0 || ((t.size(1) == 1 || t.stride(1) == 1) && (t.size(0) == 1 || t.stride(0) == t.size(1)));
}

// A batch of images: float32 [N, C, H, W], contiguous or channels_last. All images of one call lie alike.
struct Images {
  int64_t count, channels, height, width;
  bool channels_last;
  int32_t device;
  bool cuda;

  explicit Images(const Tensor& x, const char* name = "x") {
    STD_TORCH_CHECK(x.dim() == 4, name, " must be [N, C, H, W], found shape ", shape_of(x));
    STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float, name, " must be float32");
    count = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
    const bool contiguous = x.numel() == 0 || lies(x, {0, 1, 2, 3});
    channels_last = !contiguous && lies(x, {0, 2, 3, 1});
    STD_TORCH_CHECK(contiguous || channels_last, name, " must be contiguous or channels_last, without gaps");
    cuda = x.is_cuda(), device = x.get_device_index();
  }

  int64_t elements() const { return channels * height * width; }

  void same_device(const Tensor& t, const char* name) const {
    STD_TORCH_CHECK(t.is_cuda() == cuda && (!cuda || t.get_device_index() == device), name, " must be on x's device");
  }

  // t has the shape, the device and the layout of these images.
  void same(const Tensor& t, const char* name) const {
    const bool shape = t.dim() == 4 && t.size(0) == count && t.size(1) == channels && t.size(2) == height && t.size(3) == width;
    STD_TORCH_CHECK(shape, name, " must have x's shape, found ", shape_of(t));
    same_device(t, name);
    const bool alike = t.numel() == 0 || (channels_last ? lies(t, {0, 2, 3, 1}) : lies(t, {0, 1, 2, 3}));
    STD_TORCH_CHECK(alike, name, " must lie in memory as x does (contiguous or channels_last)");
  }

  float* floats(const Tensor& t, const char* name) const {
    same(t, name);
    STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float, name, " must be float32");
    return static_cast<float*>(t.mutable_data_ptr());
  }

  float* floats(const std::optional<Tensor>& t, const char* name) const { return t ? floats(*t, name) : nullptr; }

  const void* gradient(const Tensor& g, Number* type) const {
    same(g, "g");
    const auto dtype = g.scalar_type();
    STD_TORCH_CHECK(
        dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half,
        "g must be float32, bfloat16 or float16");
    *type = dtype == ScalarType::Float ? Number::kFloat
        : dtype == ScalarType::BFloat16 ? Number::kBfloat16
                                        : Number::kHalf;
    return g.const_data_ptr();
  }

  // A one-dimensional, dense tensor of `size` values.
  void* vector(const Tensor& t, ScalarType dtype, int64_t size, const char* name) const {
    STD_TORCH_CHECK(
        t.dim() == 1 && t.size(0) == size && (size < 2 || t.stride(0) == 1),
        name, " must be [", size, "] and dense, found ", shape_of(t));
    STD_TORCH_CHECK(t.scalar_type() == dtype, name, " has the wrong dtype");
    same_device(t, name);
    return t.mutable_data_ptr();
  }
};

}  // namespace classmodels
