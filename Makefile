# Two commands: `make demo` and `make test`. Both install what they need into .venv first.

# The first Python that really runs and is of a version that is supported.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c '$(FITS)' 2>/dev/null && echo $$name && break; done)
VENV := .venv
VERSION := import sys; print("%d.%d" % sys.version_info[:2])
INSTALLED := $(VENV)/.installed
STORE_VENV := .venv-object-store
STORE_INSTALLED := $(STORE_VENV)/.installed

TOOLS := .venv-tools
TOOLS_INSTALLED := $(TOOLS)/.installed
COMPILE := $(TOOLS)/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header \
	--no-annotate
LOCKED := infra/packages/locked_requirements.py

.PHONY: local demo compare-labels docs test test-slow badges lint install clean object-store lock sbom audit licences \
	image

install: $(INSTALLED) $(STORE_INSTALLED)

# pip is the only tool needed. Every version is pinned in constraints.txt, and every file is compared with its hash in
# requirements.lock. The exception is torch: an index may have another build of it, for CPUs alone or for other GPUs.
$(INSTALLED): pyproject.toml constraints.txt requirements.lock
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(FITS)' || \
		{ echo "error: Python 3.11, 3.12 or 3.13 is needed; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-deps --constraint constraints.txt torch
	$(VENV)/bin/python infra/docker/list_requirements.py pyproject.toml dev > $(VENV)/requirements.txt
	$(VENV)/bin/pip install --quiet --dry-run --only-binary :all: --report $(VENV)/report.json \
		--constraint constraints.txt --requirement $(VENV)/requirements.txt
	$(VENV)/bin/python $(LOCKED) requirements.lock $(VENV)/report.json > $(VENV)/locked.txt
	$(VENV)/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: --requirement $(VENV)/locked.txt
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The S3 server that tests use, in an environment of its own: it replaces parts of the standard library.
$(STORE_INSTALLED): infra/local/object_store/requirements.lock
	$(PYTHON) -m venv $(STORE_VENV)
	$(STORE_VENV)/bin/pip install --quiet --require-hashes --requirement $<
	@touch $@

$(TOOLS_INSTALLED): infra/packages/tools.lock
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --require-hashes --requirement $<
	@touch $@

# The hashes of all packages, from PyPI: after every change of a version.
lock: $(TOOLS_INSTALLED)
	$(COMPILE) pyproject.toml --extra dev --constraint constraints.txt --output-file requirements.lock
	$(COMPILE) infra/local/object_store/requirements.txt --output-file infra/local/object_store/requirements.lock
	$(COMPILE) infra/packages/tools.txt --output-file infra/packages/tools.lock

# A bill of materials (CycloneDX) of what is installed here; needs no network.
sbom: $(INSTALLED) $(TOOLS_INSTALLED)
	$(TOOLS)/bin/cyclonedx-py environment $(VENV)/bin/python --pyproject pyproject.toml --output-reproducible \
		--output-file dpt_ray.sbom.json

# Known vulnerabilities of the locked packages, asked from PyPI; AUDIT=osv asks OSV. A package that cannot be looked up
# is an error: nothing passes unseen.
AUDIT ?= pypi
audit: $(TOOLS_INSTALLED)
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --vulnerability-service $(AUDIT) \
		--requirement requirements.lock --requirement infra/local/object_store/requirements.lock \
		--requirement infra/packages/tools.lock

licences: $(INSTALLED)
	$(VENV)/bin/python infra/packages/licences.py > docs/reference/licences.md

# The image, from a base whose content is known: make image PYTHON_IMAGE=docker.io/library/python@sha256:... DEVICE=gpu
DOCKER ?= docker
DEVICE ?= cpu
IMAGE ?= dpt-ray:$(DEVICE)
image:
	@echo "$(PYTHON_IMAGE)" | grep --quiet --extended-regexp '@sha256:[0-9a-f]{64}$$' || { echo \
		"error: PYTHON_IMAGE must be name@sha256:<64 hexadecimal digits>; 'docker buildx imagetools inspect" \
		"python:3.11.14-slim-bookworm' shows the digest of a tag"; exit 2; }
	$(DOCKER) build --file infra/docker/Dockerfile --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) \
		--build-arg DEVICE=$(DEVICE) --tag $(IMAGE) .

# A local object store to try out s3:// with; it prints the variables to set.
object-store: $(STORE_INSTALLED)
	$(STORE_VENV)/bin/python -W ignore infra/local/object_store/serve.py object_store_data

# The full job as in production: ray job submit with a token, data and results in S3.
local: $(INSTALLED) $(STORE_INSTALLED)
	$(VENV)/bin/python infra/local/run.py local_run

demo: $(INSTALLED)
	$(VENV)/bin/python jobs/dpt_full.py --config configs/demo.yaml

# Four numbers of labels over three seeds with tiny networks, as one page: dpt_results/comparisons/comparison.html.
compare-labels: $(INSTALLED)
	$(VENV)/bin/dpt tune --config configs/tune/label_ratio_tiny.yaml
	$(VENV)/bin/dpt compare --search label_ratio_tiny

# The pages of docs/ as a static site: open site/index.html. A link that leads nowhere is an error.
docs: $(TOOLS_INSTALLED)
	$(TOOLS)/bin/sphinx-build --quiet --fail-on-warning --conf-dir infra/docs --doctree-dir build/doctrees docs site

# Two processes share the tests (tests/conftest.py). Ray's workers have niceness 15, so the others must not have less.
# A process that dies ends the tests: its replacement would be given no work, and all would wait for ever.
test: lint $(STORE_INSTALLED)
	OMP_NUM_THREADS=1 nice -n 15 $(VENV)/bin/pytest --numprocesses 2 --no-loadscope-reorder --max-worker-restart 0 \
		--durations=30 --junitxml=build/tests-$$($(VENV)/bin/python -c '$(VERSION)').xml

# The badges of the README, from the results of `make test` with each Python.
badges: $(INSTALLED)
	$(VENV)/bin/python infra/badges/make_badges.py build/tests-*.xml

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-slow: $(INSTALLED) $(STORE_INSTALLED)
	$(VENV)/bin/pytest -m slow

clean:
	rm -rf $(VENV) $(STORE_VENV) $(TOOLS) dpt_results local_run site
