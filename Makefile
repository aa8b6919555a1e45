# make setup | demo | test | test-slow | test-s3 | clean
#
# Machines with a GPU, or where pip would pick a CUDA build that is not wanted:
#   make setup TORCH_INDEX_URL=<a PyTorch wheel index>     handed to pip for torch alone
# Another interpreter:  make setup PYTHON=python3.12
# test-s3 starts a private S3 server (Ceph) in build/s3 for the storage tests, and ends it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup demo test test-slow test-s3 clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$name && break; done)
PYTEST := $(BIN)/python -P -m pytest
# torch first and alone: its build (CPU, CUDA version) is chosen by the index, and what comes after
# finds the requirement met. An index that is not given leaves pip's own settings as they are.
TORCH_INDEX_URL ?=
TORCH_INDEX := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
	  echo "error: no Python 3.11, 3.12 or 3.13 found; name one with PYTHON=/path/to/python" >&2; \
	  exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "error: $(PYTHON) cannot make virtual environments;" \
	    "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; fi
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH_INDEX) "$(TORCH)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/sigma-pipeline run

test: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(PYTEST)

test-slow: setup
	$(PYTEST) -m slow --durations=10

# Against a real object store on this machine (Ceph's gateway, unpacked below build/).
S3_TESTS := tests/infra/test_s3.py tests/infra/test_storage.py tests/infra/test_journal.py
test-s3: setup
	trap infra/s3/down.sh EXIT; server="$$(infra/s3/up.sh)"; eval "$$server"; \
	  $(PYTEST) -m slow $(S3_TESTS)

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache .coverage
