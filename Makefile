# Two commands: `make demo` and `make test`. Both install what they need into .venv first.

# The first Python that really runs and is of a version that is supported.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for name in python3 python3.12 python3.11; do \
	$$name -c '$(FITS)' 2>/dev/null && echo $$name && break; done)
VENV := .venv
INSTALLED := $(VENV)/.installed
STORE_VENV := .venv-object-store
STORE_INSTALLED := $(STORE_VENV)/.installed

.PHONY: local demo test test-slow lint install clean object-store

install: $(INSTALLED) $(STORE_INSTALLED)

# pip is the only tool needed; every version is pinned in constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(FITS)' || \
		{ echo "error: Python 3.11 or 3.12 is needed; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The S3 server that tests use, in an environment of its own: it replaces parts of the standard library.
$(STORE_INSTALLED): infra/local/object_store/requirements.txt
	$(PYTHON) -m venv $(STORE_VENV)
	$(STORE_VENV)/bin/pip install --quiet --requirement $<
	@touch $@

# A local object store to try out s3:// with; it prints the variables to set.
object-store: $(STORE_INSTALLED)
	$(STORE_VENV)/bin/python -W ignore infra/local/object_store/serve.py object_store_data

# The full job as in production: ray job submit with a token, data and results in S3.
local: $(INSTALLED) $(STORE_INSTALLED)
	$(VENV)/bin/python infra/local/run.py local_run

demo: $(INSTALLED)
	$(VENV)/bin/python jobs/dpt_full.py --config configs/digits.yaml

test: lint $(STORE_INSTALLED)
	$(VENV)/bin/pytest --durations=30

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-slow: $(INSTALLED) $(STORE_INSTALLED)
	$(VENV)/bin/pytest -m slow

clean:
	rm -rf $(VENV) $(STORE_VENV) dpt_results local_run
