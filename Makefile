# Two commands do everything: `make race` and `make test`. Needs Python >= 3.11 and make, nothing else.
.DEFAULT_GOAL := help
.PHONY: help venv race test lint format docs clean
SHELL := /bin/bash

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Pass options to the race: make race RACE_ARGS="digits --methods adamw,soap --trials 8"
RACE_ARGS ?=
# Workers of pytest, with one thread each: small tensors gain nothing from more, and lose when workers share cores
WORKERS ?= 2
# Pass options to pytest: make test PYTEST_ARGS="tests/laws -x"
PYTEST_ARGS ?=

help:  ## Show this text
	@echo "precond: race preconditioned methods on your problem."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Examples:"
	@echo "  make race"
	@echo "  make race RACE_ARGS=\"digits --methods adamw,soap --trials 8 --out my-race\""
	@echo "  make test PYTEST_ARGS=\"tests/laws -x\""

venv: $(STAMP)  ## Create .venv and install the pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python found: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V), but precond needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv; \
		else \
			echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv (as root), then make again." >&2; exit 1; \
		fi; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt setuptools torch
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[race,dev]'
	@touch $@

race: $(STAMP)  ## Race the default methods on the default problem, or go on where a race was stopped; RACE_ARGS= passes options
	$(BIN)/precond race $(if $(findstring --resume,$(RACE_ARGS)),,--resume) $(RACE_ARGS)

test: lint  ## Check everything: lint, types, layers, docstrings, tests; PYTEST_ARGS= passes options
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --hypothesis-profile=ci $(PYTEST_ARGS)

lint: $(STAMP)  ## Check style, types of the core, layers of imports and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pydoclint -q src/precond

format: $(STAMP)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## Write the pages that are built from the code
	$(BIN)/python -m precond.catalogue docs/methods.md
	$(BIN)/python -m precond.race.results.schema > docs/results-schema.md

clean:  ## Remove the virtual environment and caches; reports of races stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache build dist src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
