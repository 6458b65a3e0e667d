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

static py::dict facts() {
  py::dict facts;
  facts["compiler"] = COMPILER;
#ifdef WITH_CUDA
  facts["cuda"] = WITH_CUDA;
#else
  facts["cuda"] = py::none();
#endif
  facts["kernels"] = py::module_::import("json").attr("loads")(kResources);
  return facts;
}

PYBIND11_MODULE(_C, module) {
  module.doc() = "The compiled operators of classmodels; see csrc/.";
  module.def("facts", &facts, "compiler, CUDA version (None without), and the resources of each CUDA kernel.");
  module.def("variant", &classmodels::variant_name, "The instruction set that the CPU kernels use.");
  module.def("variants", &classmodels::variants, "Those this processor has, narrowest first.");
  module.def("force_variant", &classmodels::force_variant, py::arg("name") = "",
             "Use the named instruction set; without a name, the widest. Raises ValueError for one that is not there.");
  module.def("partials_of", &classmodels::partials_of, py::arg("elements"),
             "Length of the row of partial sums that an image of so many elements needs.");
}
