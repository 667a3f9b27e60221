# Everything runs in a .venv of the clone's own; each target sets up what it needs.

# The first Python that will do; where none does, whichever there is, and requirements/install.py says what is missing.
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; \
	done),$(shell command -v python3))
BIN := .venv/bin
READY := .venv/.ready
UV := $(shell command -v uv)
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test up down bench quality faults fuzz lint clean lock

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## the main job, end to end, on 10,000 real reviews
	@$(BIN)/inferry-local demo

# Tests mostly wait, so more processes than cores pay. One process, and one file: .venv/bin/pytest tests/unit/worker/text/test_subwords.py
TEST ?= --numprocesses 6
test: $(READY)  ## every test, the real Kafka and model server included
	@$(BIN)/pytest $(TEST)

up: $(READY)  ## start the stack and leave it running
	@$(BIN)/inferry-local up --detach

down: $(READY)  ## stop the stack
	@$(BIN)/inferry-local down

BENCH ?=
bench: $(READY)  ## how fast the worker is, and where its time goes: make bench BENCH='--only worker --rounds 5'
	@$(BIN)/python -m tests.bench $(BENCH)

quality: $(READY)  ## how good the model is, and what moves its scores; written to trainer/QUALITY.md
	@$(BIN)/inferry-trainer quality --data package --output trainer

FAULTS ?= --faults 100 --messages 200000
faults: $(READY)  ## faults at random against real parts, and a checker: make faults FAULTS='--seed 7 --minutes 60'
	@$(BIN)/python -m tests.faults $(FAULTS)

FUZZ ?= --records 1000000
TEXTS ?= --texts 100000 --points 1 --no-memory
fuzz: $(READY)  ## malformed records and odd texts: make fuzz FUZZ='--records 1000000 --seed 7' TEXTS='--texts 1000000 --seed 7'
	@$(BIN)/python -m tests.faults.fuzz $(FUZZ)
	@$(BIN)/python -m tests.faults.fuzz_encoder $(TEXTS)

lint: $(READY)  ## style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

clean:  ## stop the stack; remove .venv, .inferry and caches (trained models stay)
	@if [ -x $(BIN)/inferry-local ]; then $(BIN)/inferry-local down 2>/dev/null || true; fi
	@rm -rf .venv .inferry .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build worker/text/*.so

lock: $(READY)  ## choose versions and jars again within pyproject.toml's bounds (needs uv)
	@if [ -z "$(UV)" ]; then echo "make lock needs uv: see https://docs.astral.sh/uv/" >&2; exit 72; fi
	@$(LOCK) --upgrade --all-extras -o requirements/all.txt
	@$(LOCK) --upgrade --extra compression --extra librdkafka --constraint requirements/all.txt -o requirements/worker.txt
	@$(BIN)/python -m deploy.local.jars

$(READY): requirements/all.txt requirements/install.py pyproject.toml worker/text/_subwords.c worker/text/_normalise.c
	@if [ -z "$(PYTHON)" ]; then echo "make: no python3 found. Install Python 3.11 or newer, or name one: make PYTHON=…" >&2; exit 72; fi
	@rm -f worker/text/*.so   # where there is no compiler any more, an old one must not stay
	@$(PYTHON) requirements/install.py
	@touch $@
