# Everything a person types. `make serve` and `make test` need nothing but python3 >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
PEERS := $(notdir $(patsubst %/,%,$(dir $(wildcard loadtests/peers/*/requirements.in))))
# Of `make loadtest`.
USERS ?= 16
SECONDS ?= 30
HOST ?= http://127.0.0.1:8000
CLASSES ?=

.DEFAULT_GOAL := help
.PHONY: help install drift serve train test lint format typecheck lock lock-peers footprint chaos \
    simulate drift-power bad-challengers quality-at-scale swaps many-versions large-bodies rollout-chaos \
    traffic-chaos bench bench-quick loadtest loadtest-ui clean

help:  ## Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: .venv/.installed  ## Make .venv from requirements.lock

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "Tiltyard needs Python >= 3.11; this is %d.%d" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv-drift/.installed: .venv/.installed requirements-drift.lock
	$(PYTHON) -m venv .venv-drift
	$(BIN)/uv pip sync --python .venv-drift/bin/python --require-hashes requirements-drift.lock
	$(BIN)/uv pip install --python .venv-drift/bin/python --no-deps --no-build-isolation -e .
	@touch $@

drift: .venv-drift/.installed  ## Make .venv-drift, in which `tiltyard drift` runs, from requirements-drift.lock

serve: install  ## Train the digits if they are not published yet, then serve them on http://127.0.0.1:8000
	@$(BIN)/tiltyard serve serve_config.yaml

train: install  ## Train and publish the two digits versions
	$(BIN)/tiltyard train digits

test: install drift  ## Run every test: unit and http on all cores, then cluster
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile tests/unit tests/http
	$(BIN)/python -m pytest tests/cluster

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

simulate: install  ## Simulate thousands of rollouts and write what the referee does to docs/referee.md (a minute)
	$(BIN)/python -m jobs.simulate --write

chaos: install  ## Kill replicas by pid under load (stop `make serve` first)
	$(BIN)/python -m loadtests.chaos

bad-challengers: install  ## Let bad challengers meet live traffic, and a slow shadow; ten minutes (stop `make serve` first)
	$(BIN)/python -m loadtests.bad_challengers

drift-power: install drift  ## How often drift reports are wrong, and what they see; writes docs/drift.md (ten minutes)
	.venv-drift/bin/python -m loadtests.drift_power --write

traffic-chaos: install  ## Kill Routers and fill the disk under the traffic log; as root for all of it (stop `make serve` first)
	$(BIN)/python -m loadtests.traffic_chaos

rollout-chaos: install  ## Kill referee, Router and controller in the middle of a ramp (stop `make serve` first)
	$(BIN)/python -m loadtests.rollout_chaos

quality-at-scale: install  ## Import 100,000 labels into a million predictions, compare the numbers with scikit-learn's
	$(BIN)/python -m loadtests.quality_at_scale

many-versions: install  ## Compare one version with 64 published and eight live (stop `make serve` first)
	$(BIN)/python -m loadtests.many_versions

large-bodies: install  ## Send pictures and tensors of up to 16 MB, with small ones beside (stop `make serve` first)
	$(BIN)/python -m loadtests.large_bodies

swaps: install  ## Change weights and swap champions under load (stop `make serve` first)
	$(BIN)/python -m loadtests.swaps

bench: install  ## Compare with every other server, two hours and more (close everything else first)
	$(BIN)/python -m loadtests.bench --rounds 3 --write

bench-quick: install  ## Compare with two other servers, under 5 minutes once models and environments are made
	$(BIN)/python -m loadtests.bench --peers limit,tiltyard,fastapi,mosec --workloads mobilenetv2,mlp --seconds 4 --open ''

loadtest: install  ## Half a minute of users against what `make serve` serves; CLASSES=ImageUser, USERS=, SECONDS=, HOST=
	$(BIN)/locust -f loadtests/locustfile.py --headless --users $(USERS) --spawn-rate $(USERS) \
	    --run-time $(SECONDS)s --host $(HOST) $(CLASSES)

loadtest-ui: install  ## The same users with locust's page, to start, stop and watch them
	$(BIN)/locust -f loadtests/locustfile.py --host $(HOST) --class-picker

lock: install  ## Write requirements.lock and requirements-drift.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --extra openvino --extra dev --extra bench \
	    --no-emit-index-url --quiet --custom-compile-command 'make lock' -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --group drift \
	    --no-emit-index-url --quiet --custom-compile-command 'make lock' -o requirements-drift.lock

lock-peers: install  ## Write the requirements.lock of every peer anew
	for peer in $(PEERS); do \
	    $(BIN)/uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_35 --generate-hashes --quiet \
	        --no-emit-index-url --custom-compile-command 'make lock-peers' \
	        -o loadtests/peers/$$peer/requirements.lock loadtests/peers/$$peer/requirements.in || exit 1; \
	done

clean:  ## Remove the environment and the caches (published versions stay)
	rm -rf .venv .venv-drift .mypy_cache .pytest_cache .ruff_cache build *.egg-info
