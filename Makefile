# make run      a virtual environment, everything in it, and the server in the foreground
# make test     what the tests need, then all of them; make test ARGS=tests/smtp for a part
# make check    ruff and mypy
# make torture  the long tests: a ledger of what was answered against what is stored
# make bench    this server beside others, see docs/performance.rst
# make docs     the pages, in docs/_build/html, and the table of options in README.rst
# The words behind `make run ARGS=…` go to twistd, those of test and torture to pytest, those of
# bench to benchmarks/run.py.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
WHAT := setup.cfg pyproject.toml Makefile

.PHONY: run test torture bench check docs clean

run: $(VENV)/.installed
	@exec $(BIN)/twistd -n --pidfile= smtpstore $(ARGS)

test: $(VENV)/.installed-dev
	@tests/install-tools
	$(BIN)/coverage erase
	timeout --foreground --kill-after=30 1200 $(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report $(if $(ARGS),,--fail-under=95)

torture: $(VENV)/.installed-dev
	@tests/install-tools
	$(BIN)/python -m pytest --torture -m torture -s $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generated.py
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed-dev
	@tests/install-tools
	@$(BIN)/python benchmarks/run.py $(ARGS)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "smtpstore needs Python 3.11 or newer; say make PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/install-tools --venv
	$(PYTHON) -m venv $(VENV)

# twistd is run once so that its list of plugins is written by whoever may write it.
$(VENV)/.installed: $(WHAT) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools>=75'
	$(BIN)/python -m pip install --quiet --editable .
	@$(BIN)/twistd --help > /dev/null
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev,mysql,tls,web,webhook,bench]'
	@touch $@
