# Two commands do everything: `make cam` runs the app, `make test` runs the tests. Each makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: cam test test-live test-training check

cam: $(VENV)/installed-cam
	$(BIN)/nst-cam $(ARGS)

test: $(VENV)/installed-dev
	$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),$(MAKE) --keep-going --jobs 2 test-live test-training)

test-live: $(VENV)/installed-dev
	$(BIN)/python -m pytest --ignore tests/training

# These do not live by the clock: they take what the others leave of the processor.
test-training: $(VENV)/installed-dev
	nice -n 19 $(BIN)/python -m pytest -n 2 tests/training

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
