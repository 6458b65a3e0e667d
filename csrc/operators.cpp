// The operators as torch sees them: their schemas, the check of their arguments, and who computes them on which
// device. Through libtorch's stable ABI, so that one binary serves several versions of torch.
#include "tensors.h"

#include "step.h"

namespace classmodels {
namespace {

#ifdef WITH_CUDA
// In libtorch where that has CUDA; null beside a CPU-only torch, where no CUDA tensor ever gets here.
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

}  // namespace

STABLE_TORCH_LIBRARY(classmodels, library) {
  library.def(
      "step_(Tensor(a!) x, Tensor g, Tensor(b!)? m, Tensor(c!)? v, Tensor(d!) failed, Tensor(e!) partial, "
      "Tensor coefficients, Tensor x0, Tensor low, Tensor high, int norm, Tensor(f!)? out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(classmodels, CPU, library) { library.impl("step_", TORCH_BOX(&step_)); }

#ifdef WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(classmodels, CUDA, library) { library.impl("step_", TORCH_BOX(&step_)); }
#endif

}  // namespace classmodels
