# `make pretrain` runs the main job, `make test` the tests; both install what they need into .venv first.
PYTHON ?= python3
RECIPE ?= quickstart
OUT ?= runs/$(RECIPE)
BIN := .venv/bin
CHECKED := codet5p_jax tasks tests benchmarks setup.py

# A machine without a TPU must not wait for one when libtpu is installed.
ifeq ($(wildcard /dev/accel0 /dev/vfio/0),)
export JAX_PLATFORMS ?= cpu
endif
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: setup pretrain test test-all test-hf lint format bench precompile-all docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

setup: .venv/.installed  ## make .venv and install everything into it

.venv/.installed: setup.py pyproject.toml launch/install.sh
	@PYTHON="$(PYTHON)" bash launch/install.sh
	@touch $@
	@echo "setup: done; source .venv/bin/activate puts codet5p on the PATH"

pretrain: setup  ## corpus -> tokenizer -> stages 1 and 2 -> evaluation -> export -> verification
	@$(BIN)/codet5p pretrain --recipe=$(RECIPE) --out=$(OUT)

# A file's tests stay in one process, where they share what they trained; a process takes 3 GB.
PYTEST := $(BIN)/pytest -q --numprocesses=auto --maxprocesses=4 --dist=loadfile

test: setup  ## the tests, without those marked slow
	$(PYTEST) -m "not slow"

test-all: setup  ## all tests
	$(PYTEST)

test-hf: setup  ## exports in transformers 4.46 and in the newest 5, each in its own environment
	@bash launch/test_hf.sh

lint: setup  ## style, formatting and types
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy

format: setup  ## mend style and formatting
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

bench: setup  ## the benchmarks; tables here, figures in benchmarks/results
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.stage2_step
	$(BIN)/python -m benchmarks.step_memory
	$(BIN)/python -m benchmarks.frozen_step
	$(BIN)/python -m benchmarks.data_parallel
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.tokenization
	$(BIN)/python -m benchmarks.corpus
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.interop

precompile-all: setup  ## every pod recipe compiled for its slice (needs libtpu); the table of docs/pods.md
	$(BIN)/python -m benchmarks.precompile_all

docs: setup  ## check that what the documentation names exists
	$(BIN)/pytest -q tests/test_docs.py

clean:  ## remove .venv and caches; runs/ stays
	rm -rf .venv .venv-hf446 .venv-hf5 build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
