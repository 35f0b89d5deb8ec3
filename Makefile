# What a newcomer and the continuous integration type. Every target sets up what it needs; nothing has to be
# activated first. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
.ONESHELL:

PYTHON ?= python3
PYTEST_ARGS ?=
FAULTS_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
# torch and DeepSpeed look for ninja on the PATH. Only for recipes that run the project: elsewhere python3 is the system's.
ON_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"
LOCK := requirements.lock

# torch and DeepSpeed compile C++ at run time, which takes a compiler and Python's headers.
APT := sudo apt-get install -y make g++ python3-venv python3-dev
define require_system
	refuse() { printf 'error: %s\n  On Debian and Ubuntu: %s\n' "$$1" '$(APT)' >&2; exit 1; }
	command -v '$(PYTHON)' >/dev/null || refuse '"$(PYTHON)" was not found; Python 3.11 or newer is needed.'
	'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || refuse \
		"$$('$(PYTHON)' --version 2>&1) is too old; Python 3.11 or newer is needed; name it with PYTHON=python3.11."
	'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || refuse 'Python cannot create virtual environments.'
	command -v "$${CXX:-g++}" >/dev/null || refuse 'no C++ compiler was found (g++, or the one that CXX names).'
	'$(PYTHON)' -c 'import os, sys, sysconfig as s; \
		sys.exit(not os.path.exists(os.path.join(s.get_path("include"), "Python.h")))' \
		|| refuse "Python's headers are missing (Python.h)."
endef

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(STAMP)  ## create .venv with the pinned dependencies and this project

$(STAMP): $(LOCK) pyproject.toml
	@$(require_system)
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
		echo 'Creating $(VENV)'
		'$(PYTHON)' -m venv --clear $(VENV)
	fi
	echo 'Installing $(LOCK) into $(VENV) (minutes the first time)'
	$(PIP) install --quiet --requirement $(LOCK)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: quickstart
quickstart: venv  ## prepare the embedded corpus, train with ZeRO on 2 ranks, read sample stories
	@export $(ON_PATH)
	say() { printf '\n\033[1m$$ %s\033[0m\n' "$$*"; }
	say zerostream prepare configs/quickstart.yaml
	zerostream prepare configs/quickstart.yaml
	say zerostream train configs/quickstart.yaml --nproc 2
	zerostream train configs/quickstart.yaml --nproc 2
	say zerostream generate runs/quickstart --temperature 0.5 --prompt ... --prompt ... --prompt ...
	zerostream generate runs/quickstart --temperature 0.5 --prompt 'Once upon a time' \
		--prompt 'On a rainy day, Tom was playing in the garden' --prompt 'Lily wanted'
	printf '\nThe run is in runs/quickstart. See its curves with:\n\n  %s\n' \
		'$(BIN)/zerostream board runs/quickstart'

# Exit code 5 says that PYTEST_ARGS chose none of a part's tests.
.PHONY: test
test: test-units test-ranks  ## run the tests; PYTEST_ARGS="-m 'not slow'" passes options on

.PHONY: test-units
test-units: venv  ## those that need one core each, beside each other
	@$(ON_PATH) $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile tests/unit tests/docs $(PYTEST_ARGS) || [ $$? -eq 5 ]

.PHONY: test-ranks
test-ranks: venv  ## those that start ranks, two at a time
	@# A file's tests share starts of ranks, and stay together.
	$(ON_PATH) $(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/unit --ignore tests/docs $(PYTEST_ARGS) || [ $$? -eq 5 ]

.PHONY: test-faults
test-faults: venv  ## run the whole fault matrix into docs/reliability.md, and its mutation check (half an hour)
	@export $(ON_PATH)
	$(BIN)/python -m tests.faults --write docs/reliability.md $(FAULTS_ARGS)
	$(BIN)/python -m tests.faults.mutations

PEERS := .venv-peers
.PHONY: peers
peers: venv  ## install the tools that benchmarks compare with, into an environment of their own
	@test -x $(PEERS)/bin/python || '$(PYTHON)' -m venv $(PEERS)
	torch=$$(grep '^torch==' $(LOCK))
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet "$$torch" --requirement benchmarks/peers.txt
	printf 'Now: %s\n' '$(BIN)/python -m benchmarks peers'

.PHONY: test-slurm
test-slurm: venv  ## install SLURM, start one on this machine, and test what needs it (as root; ten minutes)
	@slurm/local-cluster install
	# Most of the time is waiting: several tests at once, each worker with a cluster of its own.
	$(ON_PATH) $(BIN)/python -m pytest tests/slurm -n 2 --dist worksteal $(PYTEST_ARGS)

.PHONY: check
check: venv  ## lint, formatting, types, floors
	@echo '== ruff check'; $(BIN)/ruff check .
	echo '== ruff format'; $(BIN)/ruff format --check .
	echo '== mypy'; $(BIN)/mypy
	echo '== lint-imports'; $(BIN)/lint-imports --no-logo

.PHONY: format
format: venv  ## repair what ruff can repair
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: hooks
hooks: venv  ## check every commit before it is made
	@$(BIN)/pre-commit install

# The newest versions that the ranges allow, from an environment that has nothing else in it. torch stays as it is,
# because every measurement depends on it; move it on purpose, with `make lock TORCH=2.14.1`.
TORCH ?= $(shell sed -n 's/^torch==//p' $(LOCK))
.PHONY: lock
lock:  ## renew requirements.lock from the ranges in pyproject.toml
	@$(require_system)
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT
	'$(PYTHON)' -m venv "$$scratch/venv"
	"$$scratch/venv/bin/python" -m pip --disable-pip-version-check install --quiet \
		--upgrade setuptools 'torch==$(TORCH)' '.[lora,fast,eval,dev]'
	sed -n '/^#/!q;p' $(LOCK) > "$$scratch/lock"
	"$$scratch/venv/bin/python" -m pip --disable-pip-version-check freeze --all \
		| grep -vE '^(pip|wheel|zerostream|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)(==| @)' \
		| sed -E '/^torch==/s/\+.*//' | LC_ALL=C sort -f >> "$$scratch/lock"
	cp "$$scratch/lock" $(LOCK)
	git --no-pager diff --stat -- $(LOCK) || true

.PHONY: clean
clean:  ## remove caches and build output; .venv, data/ and runs/ stay
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
