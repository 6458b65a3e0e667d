// The operators as torch sees them: their schemas, the check of their arguments, and who computes them on which
// device. Through libtorch's stable ABI, so that one binary serves several versions of torch.
#include "tensors.h"

#include "affine.h"
#include "filters.h"
#include "step.h"

namespace classmodels {
namespace {

#ifdef WITH_CUDA
// Of libtorch_cuda, which libtorch brings along where it is (see setup.py); null beside a CPU-only torch, where no CUDA
// tensor ever gets here.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

template <typename Arguments>
void on_current_stream(const char* (*launch)(const Arguments&, void*), const Arguments& arguments, int32_t device) {
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream, "this torch was built without CUDA");
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == 0, "torch has no current CUDA stream");
  const char* error = launch(arguments, stream);
  STD_TORCH_CHECK(!error, "CUDA: ", error ? error : "");
}
#endif

void step_(
    Tensor x,
    Tensor g,
    std::optional<Tensor> m,
    std::optional<Tensor> v,
    Tensor failed,
    Tensor partial,
    Tensor coefficients,
    Tensor x0,
    Tensor low,
    Tensor high,
    int64_t norm,
    std::optional<Tensor> out) {
  const Images images(x);
  STD_TORCH_CHECK(images.channels <= kMostChannels, "x must have at most ", kMostChannels, " channels");
  STD_TORCH_CHECK(m || !v, "v needs m");
  STD_TORCH_CHECK(norm >= 0 && norm <= 2, "norm must be 0 (none), 1 (rms) or 2 (l2), found ", norm);
  Step s{};
  s.x = images.floats(x, "x");
  s.g = images.gradient(g, &s.g_type);
  s.m = images.floats(m, "m");
  s.v = images.floats(v, "v");
  s.out = images.floats(out, "out");
  STD_TORCH_CHECK(!out || s.out != s.x || x.numel() == 0, "out must be another tensor than x");
  s.failed = static_cast<bool*>(images.vector(failed, ScalarType::Bool, images.count, "failed"));
  s.norm = static_cast<Norm>(norm);
  s.images = images.count, s.channels = images.channels, s.elements = images.elements();

  const int64_t partials = partials_of(s.elements);
  STD_TORCH_CHECK(
      partial.dim() == 2 && partial.size(0) == s.images && partial.size(1) == partials && lies_in_rows(partial),
      "partial must be [", s.images, ", ", partials, "] and contiguous, found ", shape_of(partial));
  STD_TORCH_CHECK(partial.scalar_type() == ScalarType::Double, "partial must be float64");
  images.same_device(partial, "partial");
  s.partial = static_cast<double*>(partial.mutable_data_ptr());

  STD_TORCH_CHECK(
      coefficients.dim() == 2 && (coefficients.size(0) == 1 || coefficients.size(0) == s.images) &&
          coefficients.size(1) == kCoefficients && lies_in_rows(coefficients),
      "coefficients must be [1 or N, ", kCoefficients, "] and contiguous, found ", shape_of(coefficients));
  STD_TORCH_CHECK(coefficients.scalar_type() == ScalarType::Float, "coefficients must be float32");
  images.same_device(coefficients, "coefficients");
  s.coefficients = static_cast<const float*>(coefficients.const_data_ptr());
  s.coefficients_stride = coefficients.size(0) == 1 ? 0 : kCoefficients;

  s.x0 = static_cast<const float*>(images.vector(x0, ScalarType::Float, s.channels, "x0"));
  s.low = static_cast<const float*>(images.vector(low, ScalarType::Float, s.channels, "low"));
  s.high = static_cast<const float*>(images.vector(high, ScalarType::Float, s.channels, "high"));

  // Only total variation needs rows; without it a plane is one long row.
  const int64_t rows = out ? images.height : 1, plane = images.height * images.width;
  s.planes = images.channels_last ? 1 : s.channels;
  s.apart = images.channels_last ? s.channels : 1;
  s.rows = rows;
  s.length = plane ? plane / rows * s.apart : 0;
  if (x.numel() == 0) return;
#ifdef WITH_CUDA
  if (images.cuda) return on_current_stream(step_cuda, s, images.device);
#endif
  step_cpu(s);
}

// A kernel to blur with, whose reflection at the border must not reach beyond the other side of `size` pixels.
int64_t radius_of(const Tensor& weights, const char* name, int64_t size) {
  const int64_t taps = weights.dim() == 1 ? weights.size(0) : 0;
  STD_TORCH_CHECK(taps % 2 == 1, name, " must be one-dimensional and of odd length, found ", shape_of(weights));
  STD_TORCH_CHECK(taps / 2 < size, name, " must have a radius below ", size, ", found ", taps / 2);
  return taps / 2;
}

void blur_(Tensor x, Tensor scratch, Tensor across, Tensor down, Tensor failed) {
  const Images images(x);
  Blur b{};
  b.x = images.floats(x, "x");
  b.scratch = images.floats(scratch, "scratch");
  STD_TORCH_CHECK(b.scratch != b.x || x.numel() == 0, "scratch must be another tensor than x");
  b.failed = static_cast<bool*>(images.vector(failed, ScalarType::Bool, images.count, "failed"));
  if (x.numel() == 0) return;
  b.across_radius = radius_of(across, "across", images.width);
  b.across = static_cast<float*>(images.vector(across, ScalarType::Float, across.size(0), "across"));
  b.down_radius = radius_of(down, "down", images.height);
  b.down = static_cast<float*>(images.vector(down, ScalarType::Float, down.size(0), "down"));
  b.images = images.count, b.rows = images.height, b.columns = images.width;
  b.planes = images.channels_last ? 1 : images.channels;
  b.apart = images.channels_last ? images.channels : 1;
#ifdef WITH_CUDA
  if (images.cuda) return on_current_stream(blur_cuda, b, images.device);
#endif
  blur_cpu(b);
}

void clip_(Tensor x, std::optional<Tensor> g, Tensor worth, Tensor failed, Tensor x0, int64_t rank) {
  const Images images(x);
  Clip c{};
  c.x = images.floats(x, "x");
  c.g = g ? images.gradient(*g, &c.g_type) : nullptr;
  c.failed = static_cast<bool*>(images.vector(failed, ScalarType::Bool, images.count, "failed"));
  c.x0 = static_cast<float*>(images.vector(x0, ScalarType::Float, images.channels, "x0"));
  c.images = images.count, c.channels = images.channels, c.pixels = images.height * images.width;
  STD_TORCH_CHECK(
      worth.dim() == 2 && worth.size(0) == c.images && worth.size(1) == c.pixels + 1 && lies_in_rows(worth),
      "worth must be [", c.images, ", ", c.pixels + 1, "] and contiguous, found ", shape_of(worth));
  STD_TORCH_CHECK(worth.scalar_type() == ScalarType::Float, "worth must be float32");
  images.same_device(worth, "worth");
  c.worth = static_cast<float*>(worth.mutable_data_ptr());
  if (x.numel() == 0) return;
  STD_TORCH_CHECK(c.pixels <= UINT32_MAX, "x must have at most 2^32 - 1 pixels in an image");
  STD_TORCH_CHECK(rank >= 1 && rank <= c.pixels, "rank must be from 1 to ", c.pixels, ", found ", rank);
  c.rank = rank;
  c.pixel_apart = images.channels_last ? c.channels : 1;
  c.channel_apart = images.channels_last ? 1 : c.pixels;
#ifdef WITH_CUDA
  if (images.cuda) return on_current_stream(clip_cuda, c, images.device);
#endif
  clip_cpu(c);
}

// `image` and `seen` may lie in memory each in its own way: the network wants channels_last, the loop does not.
Affine affine_of(const Tensor& image, const Tensor& seen, const Tensor& maps) {
  const Images images(image, "image"), others(seen, "seen");
  STD_TORCH_CHECK(
      images.count == others.count && images.channels == others.channels && images.height == others.height &&
          images.width == others.width,
      "seen must have image's shape, found ", shape_of(seen));
  images.same_device(seen, "seen");
  STD_TORCH_CHECK(
      maps.dim() == 3 && maps.size(0) == images.count && maps.size(1) == 2 && maps.size(2) == 3 &&
          (maps.numel() == 0 || (maps.stride(2) == 1 && maps.stride(1) == 3 && (maps.size(0) == 1 || maps.stride(0) == 6))),
      "maps must be [", images.count, ", 2, 3] and contiguous, found ", shape_of(maps));
  STD_TORCH_CHECK(maps.scalar_type() == ScalarType::Float, "maps must be float32");
  images.same_device(maps, "maps");
  STD_TORCH_CHECK(images.elements() <= INT32_MAX, "an image must have at most 2^31 - 1 elements");
  const auto apart = [](const Images& i) {
    const int64_t plane = i.height * i.width, column = i.channels_last ? i.channels : 1;
    return Apart{i.elements(), i.channels_last ? 1 : plane, i.width * column, column};
  };
  Affine a{};
  a.image = static_cast<float*>(image.mutable_data_ptr()), a.seen = static_cast<float*>(seen.mutable_data_ptr());
  STD_TORCH_CHECK(a.image != a.seen || image.numel() == 0, "seen must be another tensor than image");
  a.maps = static_cast<const float*>(maps.const_data_ptr());
  a.image_apart = apart(images), a.seen_apart = apart(others);
  a.images = images.count, a.channels = images.channels, a.height = images.height, a.width = images.width;
  return a;
}

void affine_(Tensor seen, Tensor image, Tensor maps) {
  const Affine a = affine_of(image, seen, maps);
  if (image.numel() == 0) return;
#ifdef WITH_CUDA
  if (image.is_cuda()) return on_current_stream(affine_cuda, a, image.get_device_index());
#endif
  affine_cpu(a);
}

void affine_adjoint_(Tensor image, Tensor seen, Tensor maps) {
  const Affine a = affine_of(image, seen, maps);
  if (image.numel() == 0) return;
#ifdef WITH_CUDA
  if (image.is_cuda()) return on_current_stream(affine_adjoint_cuda, a, image.get_device_index());
#endif
  affine_adjoint_cpu(a);
}

}  // namespace

STABLE_TORCH_LIBRARY(classmodels, library) {
  library.def(
      "step_(Tensor(a!) x, Tensor g, Tensor(b!)? m, Tensor(c!)? v, Tensor(d!) failed, Tensor(e!) partial, "
      "Tensor coefficients, Tensor x0, Tensor low, Tensor high, int norm, Tensor(f!)? out) -> ()");
  library.def("blur_(Tensor(a!) x, Tensor(b!) scratch, Tensor across, Tensor down, Tensor failed) -> ()");
  library.def("clip_(Tensor(a!) x, Tensor? g, Tensor(b!) worth, Tensor failed, Tensor x0, int rank) -> ()");
  library.def("affine_(Tensor(a!) seen, Tensor image, Tensor maps) -> ()");
  library.def("affine_adjoint_(Tensor(a!) image, Tensor seen, Tensor maps) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(classmodels, CPU, library) {
  library.impl("step_", TORCH_BOX(&step_));
  library.impl("blur_", TORCH_BOX(&blur_));
  library.impl("clip_", TORCH_BOX(&clip_));
  library.impl("affine_", TORCH_BOX(&affine_));
  library.impl("affine_adjoint_", TORCH_BOX(&affine_adjoint_));
}

#ifdef WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(classmodels, CUDA, library) {
  library.impl("step_", TORCH_BOX(&step_));
  library.impl("blur_", TORCH_BOX(&blur_));
  library.impl("clip_", TORCH_BOX(&clip_));
  library.impl("affine_", TORCH_BOX(&affine_));
  library.impl("affine_adjoint_", TORCH_BOX(&affine_adjoint_));
}
#endif

}  // namespace classmodels
