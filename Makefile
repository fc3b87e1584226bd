# The same few commands for people and for CI. `make setup` first; the others do it when it is due.
#   make demo    a training script that goes wrong: what is wrong, which remedy works on it, and the change
#   make test    lint, types, tests
#   make zoo     score diagnosis and repairs on scripts whose fault is known (the repairs take hours)
#   make bench   what watching costs

PYTHON ?= python3
VENV ?= .venv
DEMO ?= examples/demo_diverging_lm.py

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test zoo bench lint format clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make setup PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@test -f $(DEMO) || { echo "There is no $(DEMO): make demo DEMO=path/to/script.py" >&2; exit 2; }
	$(BIN)/steadygrad fix $(DEMO)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/mypy
	$(BIN)/pytest -n 2

zoo: setup
	$(BIN)/python -m zoo.score
	$(BIN)/python -m zoo.repair

bench: setup
	$(BIN)/python -m benchmarks

# Leaves the virtual environment and the stored runs alone.
clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
