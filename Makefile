# make example: paint a picture.  make test: run the tests; make test-slow: those that take long.
# make check: format, lint, direction of imports and types.
# make bench: measure, into benchmarks/RESULTS.md, in a quarter of an hour.
PYTHON := python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install example test test-slow soak check format bench clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "Python 3.10 to 3.13 is needed: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

EXAMPLE := $(CURDIR)/example.jpg
# more options for the example, for instance EXAMPLE_OPTIONS="--size 256"
EXAMPLE_OPTIONS :=

example: $(VENV)/installed
	$(BIN)/python neural_style.py --content examples/china.jpg --styles examples/church-at-auvers.jpg \
		--output "$(EXAMPLE)" --size 400 --overwrite $(EXAMPLE_OPTIONS)
	@echo "The painting is $(EXAMPLE)"

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow"

# tests that take long: the wheel is built, installed and tried
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

# hours of attempts to break the program, see docs/reliability.md: make soak MINUTES=10 PARTS="pictures networks"
MINUTES := 60
PARTS :=
soak: $(VENV)/installed-dev
	PYTHONPATH=.:tests $(BIN)/python -m soak --minutes $(MINUTES) $(PARTS)

check: $(VENV)/installed-dev
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

# what we are compared with has an environment of its own
BENCH_VENV := .venv-bench

$(BENCH_VENV)/installed: benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench: $(VENV)/installed-dev $(BENCH_VENV)/installed
	$(BIN)/python benchmarks/bench.py $(BENCH_VENV)/bin/python

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(EXAMPLE)
