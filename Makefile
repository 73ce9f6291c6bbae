# Everything starts here: `make serve`, `make test`. Each target prepares what it needs.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
# Extra arguments for the installation of torch alone, e.g. an --index-url of another build: see docs/install.md.
TORCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
DEVELOP := $(VENV)/.develop
PIP := $(BIN)/python -m pip --disable-pip-version-check
# torch goes first and by its exact version: left to the resolver, a looser wish pulls the CUDA packages.
TORCH := $(shell grep '^torch==' requirements.lock)
TRITON := $(shell grep -o 'triton==[0-9.]*' pyproject.toml)

# Tests start some hundred processes, each of which would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup develop serve test lint types layers unit test-policies test-config test-actors test-gateway test-engine slow parity mutants faults kills soak browser clients websocket-suite api-fuzz bench-gateway bench-upstream peers bench-peers verified bench-simulate bench-gpu lock clean
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## prepare .venv for serving, the command `penstock` included

develop: $(DEVELOP)  ## the same, and what tests and checks need

# What has to be fetched is the long part (some 350 MB, most of it torch): pip shows each package as it comes.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: on Debian, apt install python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "== 1 of 3: $(TORCH), about 200 MB, the longest step"
	@$(PIP) install $(TORCH) $(TORCH_ARGS)
	@echo "== 2 of 3: what else serving needs, $$(wc -l < requirements.lock) packages of requirements.lock"
	@$(PIP) install -r requirements.lock
	@echo "== 3 of 3: penstock itself"
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

$(DEVELOP): requirements-dev.lock $(STAMP)
	@echo "== what tests and checks need, $$(wc -l < requirements-dev.lock) packages of requirements-dev.lock"
	@$(PIP) install -r requirements.lock -r requirements-dev.lock
	@touch $(DEVELOP)

# Only the tests of the GPU kernels want Triton, and they skip without it: no platform's failure stops anything.
$(VENV)/.triton: pyproject.toml $(DEVELOP)
	@$(PIP) install --quiet $(TRITON) || echo "no $(TRITON) here: the tests of the GPU kernels are skipped"
	@touch $@

serve: setup  ## serve the embedded models (HOST=, PORT=)
	$(BIN)/penstock serve --host $(HOST) --port $(PORT)

test: lint types layers unit  ## everything that CI runs

lint: develop  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: develop  ## mypy, strict
	$(BIN)/mypy

layers: develop  ## who may import whom
	$(BIN)/lint-imports

unit: develop $(VENV)/.triton  ## pytest in two processes, without the slow suites
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# Decisions and configuration stand on no engine: whoever works on them alone needs neither torch nor any other of the
# large packages. These are enough, at the versions of the locks; `make develop` has them, too.
PURE := .venv-pure
PURE_STAMP := $(PURE)/.set-up
PURE_PACKAGES := editables hatchling hypothesis jsonschema msgspec numpy py3langid pytest pytest-timeout pytest-trio pyyaml tomlkit trio tzdata
PURE_PYTHON := $(if $(wildcard $(DEVELOP)),$(BIN)/python,$(PURE)/bin/python)
PURE_READY := $(if $(wildcard $(DEVELOP)),$(DEVELOP),$(PURE_STAMP))

$(PURE_STAMP): requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -m venv $(PURE)
	@$(PURE)/bin/python -m pip --disable-pip-version-check install -c requirements.lock -c requirements-dev.lock $(PURE_PACKAGES)
	@$(PURE)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation -e .
	@touch $@

test-policies test-config: $(PURE_READY)
	$(PURE_PYTHON) -m pytest -q tests/$(@:test-%=%)

test-actors test-gateway test-engine: develop
	$(BIN)/pytest -q tests/$(@:test-%=%)

test-policies:  ## the tests of policies/; without .venv in a small one of its own, without torch
test-config:  ## the tests of config/; the same
test-actors:  ## the tests of actors/
test-gateway:  ## the tests of gateway/
test-engine:  ## the tests of engine/, without the parity grid

slow: develop  ## the rest of the tables of which `make unit` takes a sample
	$(BIN)/pytest -q -m 'slow and not parity_full'

parity: develop  ## the whole parity grid against transformers
	$(BIN)/pytest -q -m parity_full tests/parity

# MUTANTS='--count 100 --seed 7 --paths policies/admission/quota.py actors --since main --jobs 2 --minutes 30'
mutants: develop  ## small changes to the pure cores and the books: which does no test notice? (MUTANTS=options)
	$(BIN)/python -m tests.mutants $(MUTANTS)

faults: develop  ## run every case of the table of faults and write docs/faults.md
	$(BIN)/python -m tests.fault_table

# KILLS='--count 1000 --seed 1'
kills: develop  ## engines, connections and clients go at random moments under mixed load: is anything lost? (KILLS=options)
	$(BIN)/python -m tests.kills $(KILLS)

MINUTES ?= 30
soak: develop  ## everything mixed over real sockets: does anything grow? (MINUTES=30)
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

browser: develop  ## the console in Chromium (on Debian: apt install chromium chromium-driver)
	@$(PIP) install --quiet selenium==4.51.0
	$(BIN)/pytest -q tests/browser

# CLIENTS='--only openai-npm langchain'
clients: develop  ## clients of others, unmodified, against one gateway; writes docs/clients.md (CLIENTS=options)
	$(BIN)/python -m tests.clients $(CLIENTS)

websocket-suite: develop  ## the cases of Autobahn's suite against the WebSocket layer
	@$(PIP) install --quiet kosoku==0.1.0
	$(BIN)/python -m tests.websocket_suite

# Installed then, as the suite above: with its 20 packages it is no part of the locks. API_FUZZ='--examples 200 --seed 2 --only keyed'
api-fuzz: develop  ## schemathesis with all its checks against servers with and without keys (API_FUZZ=options)
	@$(PIP) install --quiet schemathesis==4.32.5
	$(BIN)/python -m tests.api_fuzz $(API_FUZZ)

bench-gateway: setup  ## the gateway with a fake engine beside fixed bytes
	$(BIN)/python -m benchmarks.gateway

bench-upstream: setup  ## Penstock in front of another server beside other gateways, on a quiet machine
	$(BIN)/python -m benchmarks.upstream

peers: setup  ## install vLLM, llama.cpp and transformers, to be measured beside
	$(BIN)/python -m benchmarks.engine.install_peers

bench-peers: setup  ## the engine beside its peers over HTTP, on a quiet machine
	$(BIN)/python -m benchmarks.engine.peers

verified: setup  ## are 600 verified answers the large model's own, token by token?
	$(BIN)/python -m benchmarks.verified identity
	$(BIN)/python -m benchmarks.verified identity --temperature 0.8

bench-simulate: setup  ## a simulation beside a real run of the same traffic, on a quiet machine
	$(BIN)/python -m benchmarks.policies.simulate_vs_real

bench-gpu: develop  ## decode against the memory's floor, on a machine with a GPU
	$(BIN)/python -m benchmarks.engine.gpu

lock:  ## resolve the dependencies anew into requirements.lock and requirements-dev.lock
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet $(TORCH) $(TORCH_ARGS)
	.lock-venv/bin/python -m pip install --quiet . hatchling editables
	.lock-venv/bin/python -m pip freeze --exclude penstock | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' > requirements.lock
	.lock-venv/bin/python -m pip install --quiet -r requirements.lock '.[dev]'
	.lock-venv/bin/python -m pip freeze --exclude penstock | grep -vixFf requirements.lock | grep -v '^torch==' > requirements-dev.lock
	rm -rf .lock-venv

clean:  ## remove the environment and all caches
	rm -rf $(VENV) $(PURE) .lock-venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
