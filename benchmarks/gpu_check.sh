#!/usr/bin/env bash
# Everything about the compiled ops that needs a GPU, in one go: build, agreement, graphs, the sanitizer, the timings.
#
#   make gpu-check [PYTHON=python3]      writes benchmarks/results/<gpu>.json
#
# Uses the Python it is given and what is installed there (torch with CUDA, pytest, hypothesis, ninja, pybind11); needs nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
export PYTHONPATH="$PWD/service:$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "torch sees no CUDA device")'
FORCE_CUDA=1 "$python" setup.py -q build_ext --inplace
name=$("$python" -c 'import re, torch; print(re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-"))')

"$python" -m pytest -q -p no:cacheprovider -m extension tests/ops tests/ascent

# Every tensor has memory of its own here: within a block of torch's cache nobody sees when a kernel leaves its tensor.
if sanitizer=$(PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin" command -v compute-sanitizer); then
  for tool in memcheck racecheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" --error-exitcode 1 \
      "$python" -m pytest -q -x -p no:cacheprovider tests/ops/test_step_backends.py tests/ops/test_filters_backends.py \
      -k 'cuda and (beyond or fail) and not avx'
  done
else
  echo "compute-sanitizer is not here: memcheck and racecheck were not run"
fi

"$python" benchmarks/step.py --device cuda --output "benchmarks/results/$name.json"
"$python" benchmarks/table.py benchmarks/results/*.json
