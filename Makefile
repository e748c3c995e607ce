# The two commands that matter: `make hello` runs the main job, `make test` passes the tests. Both set up what they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BACKEND ?= $(if $(filter Linux,$(shell uname -s)),local,auto)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

$(VENV)/.ready: pyproject.toml scripts/environment.sh
	@scripts/environment.sh $(PYTHON) $(VENV)

.PHONY: hello
hello: $(VENV)/.ready ## launch manifests/hello.yaml, from nothing (BACKEND=docker for an engine)
	@scripts/hello.sh $(BACKEND)

.PHONY: test
test: ## all checks and tests, engine included, with coverage
	@scripts/test.sh $(PYTHON)

.PHONY: check
check: $(VENV)/.ready ## lint, types, import contracts
	ruff check --no-cache .
	ruff format --no-cache --check .
	mypy
	lint-imports --no-cache

.PHONY: engine
engine: ## bring up a Docker engine if none answers, and say how to use it
	@$(PYTHON) scripts/engine.py start
	@$(PYTHON) scripts/engine.py env

.PHONY: images
images: $(VENV)/.ready engine ## build the agent's and the sidecars' images ahead
	@eval "$$($(PYTHON) scripts/engine.py env)" && $(VENV)/bin/python scripts/images.py

SEED ?= 1
PAIRS ?= 5
KILLS ?= 100
.PHONY: crash
crash: $(VENV)/.ready ## the whole crash proof (about 30 minutes): kill everywhere, follow up, write docs/crash-matrix.md
	@scripts/crash.sh $(SEED) $(PAIRS) $(KILLS)

.PHONY: soak
soak: $(VENV)/.ready ## twenty bottles at once on the local backend, killed at random (about 5 minutes); writes docs/soak-results/
	@mkdir -p docs/soak-results
	@set -o pipefail; $(VENV)/bin/python tests/crash/soak_local.py --seed $(SEED) | tee docs/soak-results/local.jsonl

.PHONY: bench
bench: $(VENV)/.ready engine ## all benchmarks (about 12 minutes); writes docs/benchmarks.md
	@scripts/bench.sh

.PHONY: clean
clean: ## stop our own engine and remove everything that was built here
	@$(PYTHON) scripts/engine.py stop
	rm -rf $(VENV) .build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
