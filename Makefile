# Two commands: `make demo` and `make test`. Both install what they need into .venv first.

PYTHON ?= $(firstword $(foreach name,python3.12 python3.11 python3,$(if $(shell command -v $(name)),$(name))))
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint install clean

install: $(INSTALLED)

# pip is the only tool needed; every version is pinned in constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "error: Python 3.11 or 3.12 is needed, $(PYTHON) is $$($(PYTHON) -V); set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(VENV)/bin/python jobs/dpt_full.py --config configs/digits.yaml

test: lint
	$(VENV)/bin/pytest

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-slow: $(INSTALLED)
	$(VENV)/bin/pytest -m slow

clean:
	rm -rf $(VENV) dpt_results
