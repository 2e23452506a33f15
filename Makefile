PYTHON ?= python3
PYTEST_ARGS ?= -n 2 -q --dist loadfile
BENCH_ARGS ?= --scale 1
SECONDS ?= 600
SEED ?= 1
MODELS_ARGS ?=
TIERING_ARGS ?= --scale 0.3
UV ?= uv

BIN := .venv/bin
READY := .venv/.installed
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo up test torture check bench bench-ingest bench-models bench-tiering lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## Load, move and query 336,776 real flights, in about a minute
	@$(BIN)/lakebed demo

up: $(READY) ## Start PostgreSQL, the Dagster UI and its daemon; Ctrl-C stops them
	@$(BIN)/lakebed up

test: $(READY) ## Run the tests (PYTEST_ARGS="-k move" replaces the options)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

torture: $(READY) ## Kill, stop and cut off everybody who writes, reads or moves (SECONDS=600 SEED=1)
	@$(BIN)/python -m tests.reliability.torture --seconds $(SECONDS) --seed $(SEED)

check: $(READY) ## Lint, formatting, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY) ## Measure speed and memory
	@$(BIN)/python -m bench

bench-ingest: $(READY) ## Time loads against COPY and other loaders, 6 M rows (BENCH_ARGS="--scale 0.1")
	@$(BIN)/python -m bench.ingest $(BENCH_ARGS)

bench-models: $(READY) ## Time SQL models and exports against bare DuckDB (MODELS_ARGS="--rows 100000")
	@$(BIN)/python -m bench.models $(MODELS_ARGS)

bench-tiering: $(READY) ## Time moves, cold files and reads of both tiers, 1.8 M rows (TIERING_ARGS="--scale 1")
	@$(BIN)/python -m bench.tiering $(TIERING_ARGS)

lock: ## Resolve requirements.lock anew from pyproject.toml (needs uv)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
		--no-emit-index-url --no-header --no-annotate pyproject.toml --output-file requirements.lock

clean: ## Remove .venv, caches and builds; the data in .lakebed stays
	@rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.lakebed/*' -prune -exec rm -rf {} +

# Some systems ship venv without ensurepip; pip can then be put in from outside.
$(READY): pyproject.toml requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
		"Lakebed needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.11 ..." % v[:2])'
	@echo "Setting up .venv (about a minute)"
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { $(PYTHON) -m venv --clear --without-pip .venv \
		&& $(PYTHON) -m pip -qq --python $(BIN)/python install pip; }
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
