# Everything a person or CI runs. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NODE := tests/node
NODE_READY := $(NODE)/node_modules/.ready
CHART_TESTS := tests/chart tests/rights tests/crds/test_chart.py tests/crds/test_faces_on_server.py \
  tests/crds/test_rights_on_server.py tests/kube/test_reaching.py tests/e2e/test_bad_input.py \
  $(addprefix tests/operator/test_,kstatus.py leader.py logged.py settings.py) \
  $(addprefix tests/gateway/test_,logged.py shutdown.py) \
  $(addprefix tests/faults/test_fault_,05_leader_frozen.py 06_apiserver_down.py 07_apiserver_refuses.py 10_gone.py 11_error_event.py)
SOURCES := crds kube operator gateway client hack
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: demo
demo: binaries ## Show the main job on a control plane of its own
	@$(BIN)/belay demo

.PHONY: test
test: binaries node-clients ## Run the tests, on a real API server
	@$(BIN)/python -m belay_dev.binaries nats-server helm-unittest kubeconform > /dev/null
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: chart-test
chart-test: binaries ## Run the tests of installing and operating, with a real Helm (part of `make test`)
	@$(BIN)/python -m belay_dev.binaries helm-unittest kubeconform > /dev/null
	@$(BIN)/python -m pytest $(CHART_TESTS) $(ARGS)

.PHONY: image
image: $(READY) ## Run the Dockerfile's steps in a clean folder, without a container engine
	@hack/image.sh

.PHONY: check
check: lint generated test ## The one gate, here and in CI: lint, types, generated files, tests

.PHONY: setup
setup: $(READY) ## Make the virtual environment from the locked versions

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v.major}.{v.minor}: make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: binaries
binaries: $(READY) ## Build the control plane's programs, once; then they are cached
	@$(BIN)/python -m belay_dev.binaries > /dev/null

.PHONY: node-clients
node-clients: $(NODE_READY) ## Install the JavaScript clients that the gateway is tested with

$(NODE_READY): $(NODE)/package.json $(NODE)/package-lock.json $(NODE)/.npmrc
	@if command -v npm > /dev/null; then (cd $(NODE) && npm ci --loglevel=error --ignore-scripts) && touch $@; \
	else echo "npm isn't there, so the tests of the JavaScript clients will fail: install Node.js 20 or newer" >&2; fi

.PHONY: lint
lint: $(READY) ## ruff, mypy and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(SOURCES) tests
	@$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(READY) ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: crds
crds: $(READY) ## Write CRDs, their template, admission policies and the AsyncAPI document from the models
	@$(BIN)/python -m belay_api.schema crds
	@$(BIN)/python -m belay_api.policy templates
	@$(BIN)/python -m belay_api.charted templates
	@$(BIN)/python -m belay_api.asyncapi docs

.PHONY: openapi
openapi: $(READY) ## Write docs/openapi.json from the API's operations and models
	@$(BIN)/python -m belay_gateway.api.openapi docs

.PHONY: configuration
configuration: $(READY) ## Write docs/configuration.md and the chart's schema from the settings classes
	@$(BIN)/python -m belay_dev.configuration

.PHONY: manifests
manifests: binaries crds ## Render manifests/ from the chart
	@$(BIN)/python hack/render_manifests.py

.PHONY: generated
generated: binaries ## Fail if a generated file is not what its source says
	@$(BIN)/python -m belay_api.schema --check crds
	@$(BIN)/python -m belay_api.policy --check templates
	@$(BIN)/python -m belay_api.charted --check templates
	@$(BIN)/python -m belay_api.asyncapi --check docs
	@$(BIN)/python -m belay_dev.configuration --check
	@$(BIN)/python hack/render_manifests.py --check
	@$(BIN)/python -m belay_gateway.api.openapi --check docs

.PHONY: behaviour
behaviour: $(READY) ## List the behaviours of BEHAVIOUR.md that no test names
	@$(BIN)/python hack/behaviour.py

.PHONY: bench
bench: bench-delegations bench-gateway bench-sessions ## Measure everything, in ratios to the raw API server in the same run

.PHONY: bench-delegations
bench-delegations: binaries ## Measure delegations (ARGS=1000: fewer than 10,000 in flight; ARGS="1000 through": only from end to end)
	@PYTHONPATH=tests $(BIN)/python -m bench.delegations $(ARGS)

.PHONY: bench-gateway
bench-gateway: binaries ## Measure sockets (ARGS=1000 for fewer than 10,000 idle ones)
	@PYTHONPATH=tests $(BIN)/python -m bench.gateway $(ARGS)

.PHONY: bench-sessions
bench-sessions: binaries ## Measure Model agents (ARGS=100 for fewer than 1,000 idle sessions)
	@PYTHONPATH=tests $(BIN)/python -m bench.sessions $(ARGS)

.PHONY: lock
lock: $(READY) ## Lock the versions again, with hashes
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --all-extras --group dev pyproject.toml -o requirements.lock

.PHONY: clean
clean: ## Remove what was made here; the cached programs stay
	@rm -rf $(VENV) $(NODE)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
