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
READY_DEV := .venv/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One line for each package that is downloaded or installed, on a terminal and in a log.
PIP_SHOWN := PYTHONUNBUFFERED=1 PIP_PROGRESS_BAR=off $(PIP)

.DEFAULT_GOAL := help
.PHONY: help demo up test torture check bench bench-ingest bench-models bench-tiering lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## Load, move and query 336,776 real flights, in about a minute
	@$(BIN)/lakebed demo

up: $(READY) ## Start PostgreSQL, the Dagster UI and its daemon; Ctrl-C stops them
	@$(BIN)/lakebed up

test: $(READY_DEV) ## Run the tests (PYTEST_ARGS="-k move" replaces the options)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

torture: $(READY_DEV) ## Kill, stop and cut off everybody who writes, reads or moves (SECONDS=600 SEED=1)
	@$(BIN)/python -m tests.reliability.torture --seconds $(SECONDS) --seed $(SEED)

check: $(READY_DEV) ## Lint, formatting, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY_DEV) ## Measure speed and memory
	@$(BIN)/python -m bench

bench-ingest: $(READY_DEV) ## Time loads against COPY and other loaders, 6 M rows (BENCH_ARGS="--scale 0.1")
	@$(BIN)/python -m bench.ingest $(BENCH_ARGS)

bench-models: $(READY_DEV) ## Time SQL models and exports against bare DuckDB (MODELS_ARGS="--rows 100000")
	@$(BIN)/python -m bench.models $(MODELS_ARGS)

bench-tiering: $(READY_DEV) ## Time moves, cold files and reads of both tiers, 1.8 M rows (TIERING_ARGS="--scale 1")
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
	@echo "1/3 Making .venv"
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { $(PYTHON) -m venv --clear --without-pip .venv \
		&& $(PYTHON) -m pip -qq --python $(BIN)/python install pip; }
	@echo "2/3 Downloading and installing what Lakebed needs (a minute or more)"
	@$(PIP_SHOWN) install --constraint requirements.lock "hatchling>=1.27"
	@$(PIP_SHOWN) install --constraint requirements.lock --no-build-isolation --editable ".[all]"
	@echo "3/3 .venv is ready"
	@touch $@

# What tests, benchmarks and checks need beyond the demo.
$(READY_DEV): $(READY)
	@echo "Installing what the tests need (once)"
	@$(PIP_SHOWN) install --requirement requirements.lock
	@touch $@
