# Two commands do everything: `make cam` runs the app, `make test` runs the tests. Each makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: cam test check

cam: $(VENV)/installed-cam
	$(BIN)/nst-cam $(ARGS)

# Tests that watch a running app go first, one at a time; the others share the processor.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(or $(ARGS),-m live)
	$(if $(ARGS),,$(BIN)/python -m pytest -n 2 -m "not live")

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

# A venv that failed half-way (Debian without python3-venv) or is of too old a Python must not stay.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nst needs Python 3.11 or newer: make PYTHON=python3.12 cam")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed-cam: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	touch $@ $(VENV)/installed-cam
