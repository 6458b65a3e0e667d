"""Builds the package's extension, `classmodels._C`, from csrc/ with ninja; all else stands in pyproject.toml.

The CPU part is built on Linux wherever there is a C++ compiler and torch; the CUDA part too when torch sees a GPU and
nvcc is there. FORCE_CUDA=1, or TORCH_CUDA_ARCH_LIST, asks for it: then it is an error if it cannot be had. nvcc is
driven from here and not through torch, so that it can be used beside a CPU-only torch too. Where something is missing
the package installs without its extension, or that without its CUDA part, and says why (`classmodels info`); a
compiler that fails is an error.

    pip install --no-build-isolation .          (torch, ninja and pybind11 installed before)
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
# The oldest torch whose stable ABI the binary needs; it also runs on all later ones.
OLDEST_TORCH = (2, 11)
CUDA_ARCHITECTURES = [75, 80, 86, 89, 90, 100, 120]
# PTX serves GPUs of its own version or above that run none of the machine code, which never leaves its major version.
# The newest architecture's is for what is yet to come; 10.0's is all that an 11.0 runs. That of older ones would serve
# nobody: a driver refuses PTX for the release of nvcc that wrote it, not for the architecture that it is for.
PTX_TOO = 100
CPP_FLAGS = [
    *("-std=c++20", "-O3", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    # Loops marked `omp simd` become vectors; NaN and infinity keep their meaning.
    *("-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
]
NVCC_FLAGS = [
    *("-std=c++17", "-O3", "-lineinfo", "--threads", "0", "-Xcompiler", "-fPIC,-fvisibility=hidden"),
    *("-Xptxas", "-v"),  # the resource report
]
# The CUDA part finds torch's current stream through libtorch: kept though nothing else in there is named, and though
# a linker drops such a library by default (Ubuntu's does).
LIBRARIES = ["-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu"]


class MissingError(Exception):
    """Why the extension, or its CUDA part, cannot be built here: a clause."""


class Cuda(NamedTuple):
    """The CUDA compiler, its release, and what it shall make: sm_90 is machine code, compute_90 is PTX."""

    nvcc: str
    release: str
    codes: list[str]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compiler() -> list[str]:
    """The C++ compiler, as words: $CXX, or the first of c++, g++, clang++."""
    asked = os.environ.get("CXX")
    for name in [asked] if asked else ["c++", "g++", "clang++"]:
        words = shlex.split(name)
        if shutil.which(words[0]):
            return words
    raise MissingError(f"no C++ compiler was found (looked for {asked or 'c++, g++, clang++'})")


def python_headers() -> str:
    """Where Python.h is. Each of the two is wrong for some Pythons: deadsnakes', and some that were moved."""
    for place in (sysconfig.get_config_var("INCLUDEPY"), sysconfig.get_path("include")):
        if place and Path(place, "Python.h").exists():
            return place
    raise MissingError("Python.h was not found; install python3-dev (Fedora: python3-devel), then classmodels again")


def nvcc() -> str:
    """The CUDA compiler: of $CUDA_HOME or $CUDA_PATH, or else on the path or in the usual place."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    for place in [f"{home}/bin/nvcc"] if home else [shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]:
        if place and os.access(place, os.X_OK):
            return place
    raise MissingError("nvcc was not found: set CUDA_HOME to the folder of the CUDA toolkit")


def asks_for_cuda() -> bool:
    """Whether somebody wants the CUDA part or an error: an image is built where no GPU can be seen."""
    force = os.environ.get("FORCE_CUDA", "")
    if force not in ("", "0", "1"):
        raise SystemExit(f"FORCE_CUDA={force}: expected 0 or 1")
    return force == "1" or (not force and bool(asked_codes()))


def cuda() -> Cuda:
    """How to build the CUDA part. Raises MissingError where it is not to be built, or cannot be."""
    import torch

    if not asks_for_cuda():
        if os.environ.get("FORCE_CUDA"):
            raise MissingError("FORCE_CUDA=0 was set")
        if torch.version.cuda is None or not torch.cuda.is_available():
            raise MissingError("torch saw no CUDA device")
    path = nvcc()
    release = re.search(r"release (\S+),", output(path, "--version"))
    known = {int(number) for number in re.findall(r"\bsm_(\d+)\b", output(path, "--list-gpu-code"))}
    return Cuda(path, release[1] if release else "unknown", asked_codes() or codes(known))


def asked_codes() -> list[str]:
    """What $TORCH_CUDA_ARCH_LIST, such as "8.0;9.0+PTX", asks for."""
    asked = []
    for entry in re.findall(r"[^;,\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "")):
        found = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", entry)
        if not found:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST: found {entry!r}, expected entries such as 8.0 or 9.0+PTX")
        kinds = ["sm", "compute"] if found[3] else ["sm"]
        asked += [f"{kind}_{found[1]}{found[2]}" for kind in kinds]
    return asked


def codes(known: set[int]) -> list[str]:
    """What to compile for unasked: the GPUs torch sees, or all since Turing. known: to nvcc, 90 for 9.0."""
    import torch

    count = torch.cuda.device_count() if torch.version.cuda else 0
    seen = sorted({10 * major + minor for major, minor in map(torch.cuda.get_device_capability, range(count))})
    if seen:
        # A GPU that nvcc does not know runs older code: machine code of its major version, or PTX.
        chosen = {max(older) for gpu in seen if (older := [each for each in known if each <= gpu])}
    else:
        chosen = known.intersection(CUDA_ARCHITECTURES)
    if not chosen:
        raise MissingError(
            f"nvcc compiles for none of {', '.join(f'sm_{each}' for each in seen or CUDA_ARCHITECTURES)}"
        )
    ptx = {max(chosen)} if seen else chosen & {PTX_TOO, max(chosen)}
    return [f"sm_{number}" for number in sorted(chosen)] + [f"compute_{number}" for number in sorted(ptx)]


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
            if asks_for_cuda():
                raise SystemExit(f"FORCE_CUDA or TORCH_CUDA_ARCH_LIST asks for CUDA: {error}") from error
            for stale in (target, package / target.name):
                stale.unlink(missing_ok=True)
            reason.write_text(f"{error}\n")
            self.warn(f"classmodels installs without its extension: {error}. Its PyTorch fallback serves.")

    def compile(self, target: Path) -> None:
        if sys.platform != "linux":
            raise MissingError("it is built on Linux only")
        cxx = compiler()
        headers = python_headers()
        try:
            import ninja
            import pybind11
            import torch
            from torch.utils.cpp_extension import include_paths, library_paths
        except ImportError as error:
            raise MissingError(
                f"{error.name} was not there when classmodels was installed; "
                "install torch, ninja and pybind11 first, then classmodels with --no-build-isolation"
            ) from error
        if tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2]) < OLDEST_TORCH:
            oldest = "{}.{}".format(*OLDEST_TORCH)
            raise MissingError(
                f"it needs torch {oldest} or later, found {torch.__version__}; install that, then classmodels again"
            )

        part, why_not = None, None
        try:
            part = cuda()
        except MissingError as error:
            if asks_for_cuda():
                raise
            why_not = str(error)
        facts = {
            "compiler": output(*cxx, "--version").splitlines()[0],
            "cuda": part and part.release,
            "without_cuda": why_not,
            "architectures": part.codes if part else [],
        }
        folder = Path(self.build_temp).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        includes = [*include_paths(), pybind11.get_include(), headers]
        flags = [*CPP_FLAGS, "-DTORCH_TARGET_VERSION=0x{:02x}{:02x}000000000000".format(*OLDEST_TORCH)]
        flags += [f"-isystem{path}" for path in includes] + [f"-I{CSRC}", f"-I{folder}"]
        libraries = [f"-L{path}" for path in library_paths()]
        if part:
            # CUDA's packages on PyPI keep their libraries where their own nvcc does not look for them.
            libraries.append(f"-L{Path(part.nvcc).parents[1] / 'lib'}")
        write_plan(folder, target, cxx, flags, libraries, part, facts)
        if subprocess.run([Path(ninja.BIN_DIR) / "ninja", "--quiet", "-C", str(folder)]).returncode:
            raise SystemExit("the extension does not compile: see above")


def write_plan(
    folder: Path, target: Path, cxx: list[str], flags: list[str], libraries: list[str], cuda: Cuda | None, facts: dict
) -> None:
    """Write `folder`/build.ninja, which makes `target`.

    flags: for every C++ source. libraries: where they are looked for. facts: what the binary tells of itself.
    """
    from ninja.ninja_syntax import Writer

    with open(folder / "build.ninja", "w") as file:
        plan = Writer(file)
        objects, logs, linker = [], [], cxx
        if cuda:
            flags = [*flags, "-DWITH_CUDA"]
            # nvcc takes a program and no words for it: of `ccache g++ -m64` that is g++.
            host = [word for word in cxx if not word.startswith("-")][-1:] if os.environ.get("CXX") else []
            command = [cuda.nvcc, *(f"-ccbin={name}" for name in host)]
            # It links, too: it knows where the static CUDA runtime is, which a CPU-only torch does not bring.
            linker = [*command, "-cudart", "static"]
            gencode = [f"-gencode=arch={code.replace('sm', 'compute')},code={code}" for code in cuda.codes]
            plan.rule(
                "nvcc",
                f"{quoted([*command, *NVCC_FLAGS, *gencode, f'-I{CSRC}'])} -MD -MF $out.d -c $in -o $out"
                " > $out.log 2>&1 || (cat $out.log; exit 1)",
                depfile="$out.d",
                deps="gcc",
            )
            plan.rule("resources", f"{quoted([sys.executable, str(CSRC / 'resources.py')])} $in > $out")
            for source in sorted(CSRC.glob("*.cu")):
                plan.build([f"{source.name}.o"], "nvcc", [str(source)], implicit_outputs=[f"{source.name}.o.log"])
                objects.append(f"{source.name}.o")
                logs.append(f"{source.name}.o.log")
            plan.build(["resources.inc"], "resources", logs, implicit=[str(CSRC / "resources.py")])
        # -MD and not -MMD: a new torch or pybind11 makes objects stale, too.
        plan.rule("cxx", f"{quoted(cxx + flags)} $facts -MD -MF $out.d -c $in -o $out", depfile="$out.d", deps="gcc")
        for source in sorted(CSRC.glob("*.cpp")):
            bindings = source.name == "bindings.cpp"
            plan.build(
                [f"{source.name}.o"],
                "cxx",
                [str(source)],
                implicit=["resources.inc"] if bindings and cuda else None,
                variables={"facts": quoted([f"-DFACTS={json.dumps(json.dumps(facts))}"])} if bindings else None,
            )
            objects.append(f"{source.name}.o")
        plan.rule("link", f"{quoted(linker)} -shared $in -o $out {quoted(libraries + LIBRARIES)}")
        plan.build([str(target)], "link", objects)


def quoted(words: list[str]) -> str:
    """`words` as ninja and the shell after it read them."""
    return shlex.join(words).replace("$", "$$")


if __name__ == "__main__":
    # Optional: it may be missing. A compiler that fails ends ninja, and with it the installation, all the same.
    setup(ext_modules=[Extension("classmodels._C", [], optional=True)], cmdclass={"build_ext": BuildExtension})
