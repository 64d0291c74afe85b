# Everything a person types. `make serve` and `make test` need nothing but python3 >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help install serve train test lint format typecheck lock footprint chaos clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: .venv/.installed  ## Make .venv from requirements.lock

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "Tiltyard needs Python >= 3.11; this is %d.%d" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

serve: install  ## Train the digits if they are not published yet, then serve them on http://127.0.0.1:8000
	@$(BIN)/tiltyard serve serve_config.yaml

train: install  ## Train and publish the two digits versions
	$(BIN)/tiltyard train digits

test: install  ## Run every test: unit, http, cluster
	$(BIN)/python -m pytest

lint: install  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: install  ## mypy --strict
	$(BIN)/mypy

footprint: install  ## Measure start-up, memory of each process, latency of one request (stop `make serve` first)
	$(BIN)/python -m loadtests.footprint

chaos: install  ## Kill replicas by pid under load (stop `make serve` first)
	$(BIN)/python -m loadtests.chaos

lock: install  ## Write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --extra dev --extra drift --extra bench \
	    --no-emit-index-url --quiet --custom-compile-command 'make lock' -o requirements.lock pyproject.toml

clean:  ## Remove the environment and the caches (published versions stay)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build *.egg-info
