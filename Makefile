# make demo    sets everything up, renders with the model in the box; prints where the pictures are
# make train-demo    trains the quickstart model on two cores first, and renders with that
# make test    the test suite; make test-all adds the long forms and compiles as users do
# make lint    ruff and pyright; make format; make bench
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)) python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests of a file share what its fixtures trained, so a worker takes whole files; 0 is one process.
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile

.PHONY: demo train-demo test test-all lint format bench clean

demo: $(STAMP)
	$(BIN)/python -m fiancee_jax demo --out out/demo

train-demo: $(STAMP)
	$(BIN)/python -m fiancee_jax train-demo --workdir runs/demo --out out/train-demo

test: $(VENV)/.installed-test
	$(PYTEST)

test-all: $(VENV)/.installed-test
	XLA_FLAGS= $(PYTEST) -m ""

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m benchmarks.routing --only even worst
	$(BIN)/python -m benchmarks.growth --what batch bank
	$(BIN)/python -m benchmarks.devices
	$(BIN)/python -m benchmarks.phases --steps 9

$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed; $(PYTHON) is {v.major}.{v.minor}. Try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-test: $(STAMP) requirements-test.txt requirements-eval.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt -r requirements-eval.txt
	@touch $@

clean:
	rm -rf $(VENV) out
