// The Python module `classmodels._C`: importing it registers the operators; what it carries itself are facts about
// this build and the choice of the CPU variant.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu.h"
#include "step.h"

namespace py = pybind11;

// What ptxas said of every kernel, as JSON: made by csrc/resources.py while building.
static constexpr const char* kResources =
#ifdef WITH_CUDA
#include "resources.inc"
    ;
#else
    "[]";
#endif

// FACTS is JSON too: what setup.py knew when it built this.
static py::dict facts() {
  const auto loads = py::module_::import("json").attr("loads");
  py::dict facts = loads(FACTS);
  facts["kernels"] = loads(kResources);
  return facts;
}

PYBIND11_MODULE(_C, module) {
  module.doc() = "The compiled operators of classmodels; see csrc/.";
  module.def("facts", &facts,
             "compiler; cuda, the version, or None, and without_cuda says why; architectures, such as sm_90 and "
             "compute_90 (PTX); kernels, what each takes on each architecture.");
  module.def("variant", &classmodels::variant_name, "The instruction set that the CPU kernels use.");
  module.def("variants", &classmodels::variants, "Those this processor has, narrowest first.");
  module.def("force_variant", &classmodels::force_variant, py::arg("name") = "",
             "Use the named instruction set; without a name, the widest. Raises ValueError for one that is not there.");
  module.def("partials_of", &classmodels::partials_of, py::arg("elements"),
             "Length of the row of partial sums that an image of so many elements needs.");
}
