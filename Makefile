# Entrepôt: the targets a newcomer and a developer need. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Bytecode is made when a module is first imported: most of what is installed never is. It must be kept, whatever the
# caller's environment says: the tests start hundreds of processes, and each would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --no-compile
SOURCES := src tests benchmarks fuzz
# What runs on managed devices, mostly Windows: its types are checked as they are there, too.
DEVICE_ROOMS := core durable rules protocol objects trust content client
FAST := not process and not postgres and not end_to_end
# Where the tests so marked are; tests/conftest.py refuses one elsewhere.
END_TO_END := tests/end_to_end tests/cloud_kills
# Many tests wait, for a process or a disk: two workers for each of CI's cores.
WORKERS ?= 4
# What the demonstration takes: KEEP=1 keeps everything running until Ctrl-C.
KEEP ?=

.PHONY: help demo test check bench fuzz clean lock python postgresql azurite node tools

help: ## show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  make demo KEEP=1 keeps everything running, and prints addresses and the password"

demo: $(VENV)/.runtime ## the whole product on this machine, in under a minute
	@$(BIN)/entrepot demo --folder .demo $(if $(KEEP),--keep)

test: python ## everything: format, lint, types, imports, unit, process, database, end to end
	@# What needs Python's packages only, beside the setting up of Debian's and npm's: that waits for network and disk.
	@$(MAKE) checked & $(MAKE) postgresql azurite tools && wait $$!
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not end_to_end"
	@# Three files at a time, as estates wait for disks and clocks: the tests of a file share one, and follow each other.
	$(BIN)/python -m pytest -n 3 --dist loadfile -m end_to_end $(END_TO_END)

check: $(VENV)/.dev ## the fast inner loop: format, lint, types, imports, unit tests
	@$(MAKE) lint
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "$(FAST)"

# Each worker collects all tests: what pytest makes of their asserts is written once, before all workers do it at once.
.PHONY: checked
checked: $(VENV)/.dev
	@{ $(BIN)/python -m pytest -q --collect-only >/dev/null || true; } & $(MAKE) lint && wait $$!

.PHONY: lint
lint:
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	@# Two at a time, each with a cache of its own: what one platform's run keeps does not suit the other's.
	$(BIN)/mypy --platform win32 --no-warn-unreachable --cache-dir .mypy_cache/win32 $(DEVICE_ROOMS:%=-p entrepot.%) & \
	$(BIN)/mypy && wait $$!
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## the benchmarks
	@found=$$(grep -l __main__ benchmarks/*.py 2>/dev/null || true); \
	[ -n "$$found" ] || { echo "There are no benchmarks yet."; exit 0; }; \
	for file in $$found; do name=$$(basename "$$file" .py); echo "== $$name"; $(BIN)/python -m "benchmarks.$$name"; done

# How long each parser is fuzzed; inputs that broke one stay in build/fuzz.
SECONDS_EACH ?= 60
fuzz: $(VENV)/.dev ## fuzz every parser of foreign bytes, guided by coverage
	@mkdir -p build/fuzz
	@for target in $$($(BIN)/python -m fuzz); do echo "== $$target"; mkdir -p "build/fuzz/$$target"; \
	$(BIN)/python -m fuzz "$$target" "build/fuzz/$$target" -artifact_prefix="build/fuzz/$$target." \
	  -max_total_time=$(SECONDS_EACH) -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 -verbosity=0; done

clean: ## remove what was built: environment, caches, the demonstration's folder
	rm -rf $(VENV) .demo build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------- how it is set up

$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml | python
	@echo "Setting up $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes -r requirements.lock -r requirements-build.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

python:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing. On Debian: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) -V). Choose another: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt install python3-venv"; exit 1; }

# The database tests start a PostgreSQL server of their own; they need its programs, not a running service.
postgresql:
	@if ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing PostgreSQL for the database tests"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql >/dev/null; \
	else \
	  echo "The database tests need PostgreSQL's programs. On Debian: apt install postgresql"; exit 1; \
	fi

# Tests download from a gateway with curl and aria2, and try its TLS with openssl.
tools:
	@missing=; for tool in curl:curl aria2:aria2c openssl:openssl; do \
	  command -v "$${tool#*:}" >/dev/null || missing="$$missing $${tool%%:*}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing$$missing for the tests of downloads and TLS"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else \
	  echo "The tests of downloads and TLS need:$$missing. On Debian: apt install$$missing"; exit 1; \
	fi

# The tests of the object stores start Azurite, Microsoft's emulator of Azure Blob Storage. Its lock file has hashes and
# no registry's address.
AZURITE := build/azurite
azurite: $(AZURITE)/.installed
$(AZURITE)/.installed: tests/objects/azurite/package.json tests/objects/azurite/package-lock.json | node
	@echo "Installing Azurite into $(AZURITE) (once)"
	@mkdir -p $(AZURITE)
	@cp tests/objects/azurite/package.json tests/objects/azurite/package-lock.json $(AZURITE)/
	@npm ci --prefix $(AZURITE) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

node:
	@if command -v node >/dev/null && command -v npm >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Node.js for Azurite"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nodejs npm >/dev/null; \
	else \
	  echo "Azurite needs Node.js and npm. On Debian: apt install nodejs npm"; exit 1; \
	fi

# For maintainers: choose versions anew. Registry addresses stay out of the files.
COMPILE = $(BIN)/python -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: $(VENV)/.dev
	@$(PIP) install --quiet pip-tools
	$(COMPILE) --extra server -o requirements.lock pyproject.toml
	$(COMPILE) --extra server --extra azure --extra test -c requirements.lock -o requirements-dev.lock pyproject.toml
	$(COMPILE) --build-deps-for editable --only-build-deps -c requirements-dev.lock -o requirements-build.lock pyproject.toml
	@# pip-compile leaves out the marker, and there is none for Windows.
	@sed -i "s/^\(uvloop==[^ ]*\)/\1 ; sys_platform != 'win32'/" requirements.lock requirements-dev.lock
	@sed -i '1i # Locked with hashes by `make lock`; edit pyproject.toml instead.' requirements*.lock
