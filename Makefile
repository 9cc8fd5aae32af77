# Two commands for a fresh machine with Python 3.11, git and make:
#   make demo   set up in .venv, train a network on handwritten digits, predict on pictures it has not seen
#   make test   set up in .venv, then lint, type-check and run all tests (those in a browser where Chromium is)
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-browser page page-check lint bench bench-layers bench-nets bench-error bench-train bench-choices fuzz soak faults audit clean

help:
	@sed -n '2,3p' Makefile; echo '#   make page   build the lab'"'"'s page from web/'; \
	echo '#   make bench  measure the training loop beside a bare one'; \
	echo '#   make bench-layers  measure single layers beside other runtimes'; \
	echo '#   make bench-error  measure the rounding errors of the algorithms for convolutions'; \
	echo '#   make bench-nets  measure whole networks beside other runtimes'; \
	echo '#   make bench-train  measure training beside torch'; \
	echo '#   make bench-choices  measure how near the chosen schedules are to the best'; \
	echo '#   make fuzz   20 000 random specs and a share of them for each parser; ARGS="--examples 5000"'; \
	echo '#   make soak   an hour of changing shapes, memory watched; ARGS="--seconds 600"'; \
	echo '#   make faults  full disks, signals, missing homes, machines that are cut off: one table'; \
	echo '#   make audit  known vulnerabilities of the pinned dependencies'

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: setup
	$(BIN)/svertka train digits --model lenet --out runs/demo --overwrite
	$(BIN)/svertka predict runs/demo docs/pictures/digits

test: setup lint page-check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2
	$(MAKE) --no-print-directory test-browser

# Real clicks in Chromium; without one the tests are skipped and say how to install it.
test-browser: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/lab/browser -rs

# The lab's page, from web/ into svertka/lab/static; the check compares what is committed with what web/ builds.
page: setup
	$(BIN)/python web/build.py

page-check: setup
	$(BIN)/python web/build.py --check

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python bench/train_loop.py

bench-layers: .venv-bench/ready
	.venv-bench/bin/python bench/layers.py $(ARGS)

bench-error: setup
	$(BIN)/python bench/error.py $(ARGS)

bench-choices: setup
	$(BIN)/python bench/choices.py $(ARGS)

bench-nets: .venv-bench/ready
	.venv-bench/bin/python bench/nets.py $(ARGS)
	.venv-bench/bin/python bench/nets.py --train $(ARGS)

bench-train: setup
	$(BIN)/python bench/train.py $(ARGS)

# What takes too long for each change: nightly.
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py $(ARGS)

soak: setup
	$(BIN)/python bench/soak.py $(ARGS)

faults: setup
	$(BIN)/python bench/faults.py $(ARGS)

# Strict: a dependency that the service of advisories doesn't answer for is an error, not a pass.
audit: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit]'
	@$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt 2> .venv/audit.log \
	&& tail -n 1 .venv/audit.log || { tail -n 1 .venv/audit.log | cut -c 1-300; echo "make audit: not clean:" \
	"a package has a known vulnerability, or, if none is listed, the service of advisories gave no answer"; exit 1; }

.venv-bench/ready: pyproject.toml constraints.txt bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e . -r bench/requirements.txt
	@touch $@

clean:
	rm -rf web/node_modules .venv .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
