# The developer manual: `make help`. Every target sets up what it needs in .venv and is quick when nothing changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEVELOPING := .venv/developing
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install gallery test lint clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## set up .venv: pinned dependencies and this package

# torch goes in first: everything after it must find the pinned build and keep it.
$(INSTALLED): constraints.txt pyproject.toml setup.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"found Python {sys.version.split()[0]}, expected 3.11 or later: make PYTHON=/path/to/python3")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt pip setuptools wheel
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[examples]'
	@touch $@

$(DEVELOPING): $(INSTALLED)
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

gallery: install ## the paper's Figure 1 from a real ImageNet classifier; prints the page's path
	$(BIN)/classmodels run jobs/figure-1.yaml

test: $(DEVELOPING) ## all tests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --cov --cov-report term:skip-covered --cov-fail-under 90

lint: $(DEVELOPING) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove everything that was made, but for galleries
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf service/*.egg-info
