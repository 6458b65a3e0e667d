"""Builds the package's extension, `classmodels._C`, from csrc/ with ninja; all else stands in pyproject.toml.

The CPU part is built wherever there is a C++ compiler and torch; the CUDA part when torch sees a GPU, or with
FORCE_CUDA=1, or where TORCH_CUDA_ARCH_LIST is set. nvcc is driven from here and not through torch, so that it can be
used beside a CPU-only torch too. Where something is missing the package installs without its extension and says why
(`classmodels info`); a compiler that fails is an error.

    pip install --no-build-isolation .          (torch, ninja and pybind11 installed before)
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
# The oldest torch whose stable ABI the binary needs; it also runs on all later ones.
TORCH_TARGET = "0x020b000000000000"
CUDA_ARCHITECTURES = ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX"]
CPP_FLAGS = [
    *("-std=c++20", "-O3", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    # Loops marked `omp simd` become vectors; NaN and infinity keep their meaning.
    *("-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
]
NVCC_FLAGS = [
    *("-std=c++17", "-O3", "-lineinfo", "--threads", "0", "-Xcompiler", "-fPIC,-fvisibility=hidden"),
    *("-Xptxas", "-v"),  # the resource report
]


class MissingError(Exception):
    """Why the extension cannot be built here."""


def compiler() -> str:
    """The C++ compiler: $CXX, or the first of c++, g++, clang++."""
    asked = os.environ.get("CXX")
    for name in [asked] if asked else ["c++", "g++", "clang++"]:
        if shutil.which(name.split()[0]):
            return name
    raise MissingError(f"no C++ compiler was found (looked for {asked or 'c++, g++, clang++'})")


def nvcc() -> str:
    """The CUDA compiler: of $CUDA_HOME or $CUDA_PATH, on the path, or in the usual place."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [shutil.which("nvcc"), *(f"{home}/bin/nvcc" for home in homes if home)]
    asked = next((f"{home}/bin/nvcc" for home in homes[:2] if home), None)
    for place in [asked] if asked else places:
        if place and os.access(place, os.X_OK):
            return place
    raise SystemExit("CUDA was asked for, and nvcc was not found: set CUDA_HOME, or unset FORCE_CUDA")


def wants_cuda() -> bool:
    """torch sees a GPU, or somebody asks: an image is built where no GPU can be seen."""
    import torch

    asked = os.environ.get("FORCE_CUDA", "")
    if asked not in ("", "0", "1"):
        raise SystemExit(f"FORCE_CUDA={asked}: expected 0 or 1")
    if asked:
        return asked == "1"
    return bool(os.environ.get("TORCH_CUDA_ARCH_LIST")) or torch.cuda.is_available()


def architectures() -> list[str]:
    """$TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX"), or the GPUs torch sees, or all since Turing."""
    import torch

    asked = [entry for entry in re.split(r"[;,\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "")) if entry]
    seen = sorted({"{}.{}".format(*torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())})
    for entry in asked:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", entry):
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST: found {entry!r}, expected entries such as 8.0 or 9.0+PTX")
    return asked or seen or CUDA_ARCHITECTURES


def gencode(entries: list[str]) -> list[str]:
    """nvcc's flags for architectures such as 8.0 (machine code) and 9.0+PTX (that, and code to compile later)."""
    flags = []
    for entry in entries:
        number = entry.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if entry.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


class BuildExtension(build_ext):
    """Writes a build.ninja and runs it: objects are compiled side by side, and only what changed."""

    def run(self) -> None:
        # Editable and in place: the package is the source folder. setuptools forgets this while it builds.
        self.in_source = bool(self.inplace or self.editable_mode)
        super().run()

    def build_extension(self, extension: Extension) -> None:
        target = Path(self.get_ext_fullpath(extension.name)).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        package = ROOT / "service" / "classmodels" if self.in_source else target.parent
        reason = package / "_C.missing.txt"
        try:
            self.compile(target)
            reason.unlink(missing_ok=True)
        except MissingError as error:
            for stale in (target, package / target.name):
                stale.unlink(missing_ok=True)
            reason.write_text(f"{error}\n")
            self.warn(f"classmodels installs without its extension: {error}. Its PyTorch fallback serves.")

    def compile(self, target: Path) -> None:
        cxx = compiler()
        try:
            import ninja
            import pybind11
            from torch.utils.cpp_extension import include_paths, library_paths
        except ImportError as error:
            raise MissingError(
                f"{error.name} was not there when classmodels was installed; "
                "install torch, ninja and pybind11 first, then classmodels with --no-build-isolation"
            ) from error

        folder = Path(self.build_temp).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        includes = [f"-isystem{path}" for path in include_paths()]
        includes += [f"-isystem{pybind11.get_include()}", f"-isystem{sysconfig.get_path('include')}", f"-I{CSRC}"]
        banner = subprocess.run([*cxx.split(), "--version"], capture_output=True, text=True, check=True).stdout
        defines = [f"-DTORCH_TARGET_VERSION={TORCH_TARGET}", f"-DCOMPILER={json.dumps(banner.splitlines()[0])}"]
        libraries = [f"-L{path}" for path in library_paths()] + ["-ltorch", "-ltorch_cpu"]
        cuda = []
        if wants_cuda():
            cuda = sorted(CSRC.glob("*.cu"))
            told = subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
            release = re.search(r"release (\S+),", told)
            defines.append(f"-DWITH_CUDA={json.dumps(release[1] if release else 'unknown')}")
            includes.append(f"-I{folder}")
            # CUDA's packages on PyPI keep their libraries where their own nvcc does not look for them.
            libraries.append(f"-L{Path(nvcc()).parents[1] / 'lib'}")

        from ninja.ninja_syntax import Writer

        with open(folder / "build.ninja", "w") as file:
            plan = Writer(file)
            plan.rule(
                "cxx",
                f"{cxx} -MMD -MF $out.d {quoted(CPP_FLAGS + defines + includes)} -c $in -o $out",
                depfile="$out.d",
                deps="gcc",
            )
            # nvcc as the linker knows where the static CUDA runtime is, which a CPU-only torch does not bring.
            linker = f"{nvcc()} -cudart static" if cuda else cxx
            plan.rule("link", f"{linker} -shared $in -o $out {quoted(libraries)}")
            objects, logs = [], []
            if cuda:
                flags = quoted(NVCC_FLAGS + gencode(architectures()) + [f"-I{CSRC}"])
                plan.rule(
                    "nvcc",
                    f"{nvcc()} -MD -MF $out.d {flags} -c $in -o $out > $out.log 2>&1 || (cat $out.log; exit 1)",
                    depfile="$out.d",
                    deps="gcc",
                )
                plan.rule("resources", f"python3 {CSRC / 'resources.py'} $in > $out")
                for source in cuda:
                    plan.build([f"{source.name}.o"], "nvcc", [str(source)], implicit_outputs=[f"{source.name}.o.log"])
                    objects.append(f"{source.name}.o")
                    logs.append(f"{source.name}.o.log")
                plan.build(["resources.inc"], "resources", logs, implicit=[str(CSRC / "resources.py")])
            for source in sorted(CSRC.glob("*.cpp")):
                implicit = ["resources.inc"] if cuda and source.name == "bindings.cpp" else None
                plan.build([f"{source.name}.o"], "cxx", [str(source)], implicit=implicit)
                objects.append(f"{source.name}.o")
            plan.build([str(target)], "link", objects)
        if subprocess.run([Path(ninja.BIN_DIR) / "ninja", "--quiet", "-C", str(folder)]).returncode:
            raise SystemExit("the extension does not compile: see above")


def quoted(words: list[str]) -> str:
    """`words` as ninja and the shell after it read them."""
    return shlex.join(words).replace("$", "$$")


# Optional: it may be missing. A compiler that fails ends ninja, and with it the installation, all the same.
setup(ext_modules=[Extension("classmodels._C", [], optional=True)], cmdclass={"build_ext": BuildExtension})
