# The developer manual: `make help`. Every target sets up what it needs in .venv and is quick when nothing changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEVELOPING := .venv/developing
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install gallery s3 test test-fallback soak lint image image-check bench gpu-check clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## set up .venv: pinned dependencies and this package

# torch goes in first: everything after it must find the pinned build and keep it, and the extension is built with it.
$(INSTALLED): constraints.txt pyproject.toml setup.py Makefile $(wildcard csrc/*)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"found Python {sys.version.split()[0]}, expected 3.11 or later: make PYTHON=/path/to/python3")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt pip setuptools wheel ninja pybind11
	$(PIP) install --constraint constraints.txt numpy torch
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[cluster,examples]'
	@touch $@

$(DEVELOPING): $(INSTALLED)
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

gallery: install ## the paper's Figure 1 from a real ImageNet classifier; prints the page's path
	$(BIN)/classmodels run jobs/figure-1.yaml

s3: $(DEVELOPING) ## an S3 server to try things with, until Ctrl-C; says how to reach it (PORT=9000)
	@$(BIN)/python tools/s3.py --port $(or $(PORT),9000)

test: $(DEVELOPING) ## all tests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --cov --cov-report term:skip-covered --cov-fail-under 90

test-fallback: $(DEVELOPING) ## delete the compiled extension and run the suite on the PyTorch fallback
	rm -f service/classmodels/_C.*.so $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 -m 'not extension'

soak: $(DEVELOPING) ## kill runs 200 times on a folder and on an S3 server; renew benchmarks/results/soak.json
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak tests/soak

lint: $(DEVELOPING) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

image: ## the container image, with docker, podman or buildah; FLAGS='--build-arg BASE=...' go to the builder
	bash tools/image.sh '$(TAG)' $(FLAGS)

image-check: $(DEVELOPING) ## build the image on a Debian root file system and use it as a cluster would (needs buildah)
	$(BIN)/python -m pytest -m image tests/image

bench: $(DEVELOPING) ## time the fused step and the loop on this machine and renew benchmarks/README.md
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/table.py benchmarks/results/*.json

# For a machine with a GPU and its own torch: nothing is installed, the extension is built where it lies.
gpu-check: ## on a GPU machine: build, run the GPU tests and the sanitizer, time the step, write benchmarks/results/
	PYTHON=$(PYTHON) bash benchmarks/gpu_check.sh

clean: ## remove everything that was made, but for galleries
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf service/*.egg-info
