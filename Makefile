# `make run` and `make test` install whatever is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
WEB := engine/web
WEB_PARTS := $(shell find $(WEB) \( -name node_modules -o -name dist -o -name test \) -prune -o -type f -print)
PYTEST := $(BIN)/python -m pytest
# Test files are distributed over the cores one by one. Acceptance tests measure in real time, so they run alone, last.
PARALLEL := -n logical --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder \
	-o console_output_style=classic
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# Type checkers, import-linter and editors do not see the path that trimtab/__init__.py adds: links for them.
LINKS := trimtab/engine trimtab/models trimtab/pipelines

.PHONY: help run test test-all install dev web lint format bench trials lock clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /make \1	/' | expand -t 16

run:  ## Set up and start: watches this machine, dashboard on http://127.0.0.1:8600 (ARGS="--port 9000")
	@$(MAKE) --no-print-directory -j2 install web
	@exec $(BIN)/trimtab up $(ARGS)

test:  ## Set up and run the quick tests (ARGS="-k scorer"); skipped ones are listed with the reason
	@$(MAKE) --no-print-directory -j2 dev web
	@.ci/npm test --silent
	@$(PYTEST) $(PARALLEL) -m "not slow and not acceptance" $(ARGS) || [ $$? = "$(NO_TESTS)" ]

test-all:  ## Run every test: the quick ones, the slow ones, then acceptance tests in real time
	@$(MAKE) --no-print-directory test NO_TESTS=5
	@slow=0 real_time=0; \
	$(PYTEST) $(PARALLEL) -m "slow and not acceptance" $(ARGS) || slow=$$?; \
	$(PYTEST) -m acceptance $(ARGS) || real_time=$$?; \
	case $$slow$$real_time in 00|05|50|55) ;; *) exit 1;; esac  # 5: ARGS select no test of this part

install: .venv/.run  ## Set up .venv with the command trimtab
dev: .venv/.dev  ## Set up .venv with the development tools
web: $(WEB)/dist/index.html  ## Build the dashboard

lint: dev  ## Check style, types and imports between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: dev  ## Format the code with ruff
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: dev  ## Run the benchmarks, as ratios to named peers
	@$(PYTEST) tests/benchmarks --benchmark-only $(ARGS)

trials:  ## Run the long trials: full counts, real servers at real intervals, about half an hour
	@$(MAKE) --no-print-directory -j2 dev web
	@$(PYTEST) -m trials $(ARGS)

lock: .venv/.boot  ## Update the lock files
	@$(LOCK) --upgrade pyproject.toml -o requirements.lock
	@$(LOCK) --upgrade pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock
	@$(LOCK) --upgrade .ci/boot.in -o .ci/boot.lock
	@$(LOCK) --upgrade .ci/node.in -o .ci/node.lock

clean:  ## Remove everything that was installed and built
	@rm -rf .venv .stamps $(LINKS) $(WEB)/dist $(WEB)/node_modules .mypy_cache .ruff_cache .hypothesis .benchmarks

.venv/.boot: .ci/boot.lock
	@python=$$(.ci/python) && "$$python" -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r .ci/boot.lock
	@touch $@

# The editable install uses the build tools of boot.lock only.
.venv/.run: .venv/.boot requirements.lock pyproject.toml
	@echo "installing Trimtab into .venv"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(LINKS): trimtab/%:
	@MSYS=winsymlinks:nativestrict ln -s ../$* $@

.venv/.dev: .venv/.run requirements-dev.lock | $(LINKS)
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json | .venv/.boot
	@echo "installing the dashboard's build tools"
	@.ci/npm ci --silent
	@touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json $(WEB_PARTS)
	@echo "building the dashboard"
	@.ci/npm run build --silent
	@touch $@
