# `make help` lists the targets. Everything is installed into .venv, from requirements/, and nowhere else.
.DEFAULT_GOAL := help
.PHONY: help setup serve test test-fast check format train bench bench-floor bench-startup image lock clean

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCKER ?= docker
IMAGE ?= layerserve

# The first interpreter that is new enough for us and old enough for TensorFlow. A name may exist and still not run.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

help: ## Show this list
	@echo "Layerserve: from your own Keras layers to a verified HTTP endpoint."
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP) ## Make .venv with everything the other targets need; quick when nothing changed

$(STAMP): requirements/dev.txt requirements/tfs.txt
	@test -n "$(PYTHON)" || { echo "Layerserve needs Python 3.11, 3.12 or 3.13 (TensorFlow has no newer). Found: $$(python3 --version 2>&1)"; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing the locked packages into $(VENV) (about 1.5 GB, once)."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps $(^:%=--requirement %)
	@touch $@

serve: setup ## Serve the published models; trains the digits model first if there is none (PORT=9000 for another port)
	@$(RUN) -m export train --if-missing
	@exec $(RUN) -m service $(if $(PORT),--port $(PORT)) $(ARGS)

test: setup ## Run all tests, on all cores
	@$(RUN) -m pytest -n auto --dist loadscope --no-loadscope-reorder $(ARGS)

test-fast: setup ## Run the tests that start no process and train nothing
	@$(RUN) -m pytest -n auto --dist loadscope --no-loadscope-reorder -m "not slow and not container" $(ARGS)

check: setup ## Check format, lint, types and the architecture
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@$(RUN) -m pytest -q tests/test_architecture.py

format: setup ## Format the code and mend what the linter can
	@$(RUN) -m ruff check --fix --quiet . ; $(RUN) -m ruff format .

train: setup ## Train the digits model and publish the next version (ARGS="--epochs 50")
	@$(RUN) -m export train $(ARGS)

bench: setup ## Measure the service beside what people run today, and write docs/benchmarks.md
	@$(RUN) -m export train --if-missing
	@$(RUN) -m benchmarks.serving --write docs/benchmarks.md $(ARGS)

bench-floor: setup ## Measure a call of each runtime by itself, by batch size (ARGS="churn@3" for another version)
	@$(RUN) -m export train --if-missing
	@$(RUN) -m benchmarks.floor $(ARGS)

bench-startup: setup ## Measure the time from start to ready, and the memory then, by runtime
	@$(RUN) -m export train --if-missing
	@$(RUN) -m benchmarks.startup $(ARGS)

image: ## Build the container image (IMAGE=name:tag)
	$(DOCKER) build -t $(IMAGE) .

lock: setup ## Lock the newest packages that pyproject.toml allows, with hashes
	@$(RUN) -m uv pip compile --quiet --upgrade pyproject.toml --extra dev --output-file requirements/dev.txt
	@$(RUN) -m uv pip compile --quiet --upgrade pyproject.toml --extra export --constraint requirements/dev.txt --no-annotate --output-file requirements/export.txt
	@$(RUN) -m uv pip compile --quiet --upgrade pyproject.toml --extra keras --extra slim --extra grpc --constraint requirements/dev.txt --no-annotate --output-file requirements/serve.txt
	@$(RUN) -m uv pip compile --quiet --upgrade pyproject.toml --extra slim --extra grpc --constraint requirements/dev.txt --no-annotate --output-file requirements/slim.txt
	@$(RUN) -m uv pip compile --quiet --upgrade --group tfs --no-deps --no-annotate --output-file requirements/tfs.txt

clean: ## Remove .venv and caches; published models stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
