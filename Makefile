# make setup | demo | learn | frozen | severe | test | test-slow | test-s3 | test-slurm | test-gpu |
#      bench-index | bench-data | bench-model | bench-train | bench-evaluate | clean
#
# Machines with a GPU, or where pip would pick a CUDA build that is not wanted:
#   make setup TORCH_INDEX_URL=<a PyTorch wheel index>     handed to pip for torch alone
# Another interpreter:  make setup PYTHON=python3.12
# test-s3 starts a private S3 server (Ceph) in build/s3 for the storage tests, and ends it.
# test-slurm does so with a SLURM cluster of 16 nodes in build/slurm; it needs root on Debian 12.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup demo learn frozen severe test test-slow test-s3 test-slurm test-gpu bench-index \
  bench-data bench-model bench-train bench-evaluate clean

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

# SIGMA, pixels and no training on real actions, three seeds each, into build/learn: some 10 minutes on
# two quiet cores. Videos: the folder that SIGMA_TEST_DATA names, with its SOURCES.csv.
learn: setup
	$(BIN)/python -m tests.bench.learn

# Every benchmark of a frozen encoder on real actions and DAVIS sequences, untrained beside trained,
# into build/frozen: a quarter of an hour on two busy cores. Videos: as for learn.
frozen: setup
	$(BIN)/python -m tests.bench.frozen

# A stand-in of real clips for every column of SEVERE, fine-tuned untrained and trained, into
# build/severe. Videos: as for learn.
severe: setup
	$(BIN)/python -m tests.bench.severe

# Most tests keep one core busy, or wait.
SIDE_BY_SIDE := -n logical --maxprocesses 4

# What these expect is what CPUs compute; tests of GPUs have a target of their own.
test test-slow: export CUDA_VISIBLE_DEVICES :=

test: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(PYTEST) $(SIDE_BY_SIDE) --dist worksteal

# Those of a file share what they have started, so they stay together.
test-slow: setup
	$(PYTEST) $(SIDE_BY_SIDE) --dist loadfile -m slow --durations=10

# Against a real object store on this machine (Ceph's gateway, unpacked below build/).
S3_TESTS := $(wildcard tests/infra/test_s3*.py) tests/infra/test_storage.py tests/infra/test_journal.py
test-s3: setup
	trap infra/s3/down.sh EXIT; server="$$(infra/s3/up.sh)"; eval "$$server"; \
	  $(PYTEST) -m slow $(S3_TESTS)

# On 16 nodes of a real SLURM, each a network namespace of this machine. Tests wait for SLURM most
# of the time, so several run at once, each on nodes of its own; the longest begin first.
test-slurm: setup
	trap infra/slurm/down.sh EXIT; cluster="$$(SIGMA_SLURM_NODES=16 infra/slurm/up.sh)"; \
	  eval "$$cluster"; \
	  $(PYTEST) -m slow -n 4 --maxschedchunk 1 -p no:randomly --durations 0 \
	  tests/slurm/test_training_*.py tests/slurm/test_[!t]*.py

# Training on one GPU, and on two where there are two, against the CPU; says how fast. Skipped
# without a GPU.
test-gpu: setup
	$(PYTEST) -m gpu -rs

# Index and order of 10 million made-up samples: 3 minutes, 2 GB of the temporary folder.
bench-index: setup
	$(BIN)/python tests/bench/index.py

# Shards and clips against tar, ffmpeg, libav and decord, on real videos: 10 minutes of one core.
# decord is no longer kept up and nothing else needs it; without it, PyAV stands for plain readers.
bench-data: setup
	-$(BIN)/python -m pip install --quiet --no-deps --target build/bench-packages decord==0.6.0
	OMP_NUM_THREADS=1 PYTHONPATH=build/bench-packages $(BIN)/python -m tests.bench.data

# A step of ViT-S beside a plain reference, in time and memory, on this machine: minutes.
bench-model: setup
	$(BIN)/python -m tests.bench.model

# What commits, restarts and a second process cost a training of ViT-S, on real videos: 8 minutes of
# a machine with nothing else to do. With SLURM too where `eval "$$(infra/slurm/up.sh)"` was typed.
bench-train: setup
	$(BIN)/python -m tests.bench.train

# What features that benchmarks share save, and seconds from a commit to its first score: 10 minutes
# of a machine with nothing else to do. With SLURM too, as above.
bench-evaluate: setup
	$(BIN)/python -m tests.bench.evaluate

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache .coverage
