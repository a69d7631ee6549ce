# make demo    train a Tree-LSTM on the syntax trees of the standard library
# make test    lint, format, types, all tests
# make core    the tests that tell one Python from another
# make deep    all tests, all compiled where they can be, and ten times as many random programs
# make bench   all benchmarks, beside PyTorch and NumPy by hand; writes a report
# make docs    build the site in docs/_build/html; its notebooks are run
# make format  put the sources into the formatter's shape
# make clean   remove the environment and everything that was generated
#
# Needs Python (another one: make PYTHON=python3.12) and a package index. The environment lives in $(VENV), is made on
# first use, and is brought up to date when pyproject.toml changes.

PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?= dev
BIN    := $(VENV)/bin
REPORT := $(VENV)/test-report.xml

# What depends on the interpreter: its bytecode, frames, reference counts, signals, threads, fibers and depth of calls,
# and that Numba of this Python compiles what the library writes.
CORE ?= $(addprefix tests/,base engine map record compile/host/test_lower.py nn/test_module.py \
	$(addprefix programs/test_,deciding_programs.py deep.py random_programs.py threads.py))
# Of these, what tests values that no Python changes.
VALUES ?= $(addprefix tests/record/test_,array_api.py every_numpy_function.py layouts.py numpy_functions.py \
	convolution.py indexing.py pairs.py rows.py)

# Only what is installed in $(VENV) counts, whatever the shell has set up.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX

.PHONY: demo test core deep bench docs format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	$(BIN)/autobatch train syntax-trees --overwrite

test: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)
	@$(SOME_RAN)

deep: $(VENV)/.installed-$(EXTRAS)
	$(PYTEST) --deep
	@$(SOME_RAN)

core: $(VENV)/.installed-$(EXTRAS)
	$(PYTEST) $(CORE) $(addprefix --ignore=,$(VALUES))
	@$(SOME_RAN)

PYTEST = $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal --junit-xml=$(REPORT)
SOME_RAN = $(BIN)/python -c "import sys, xml.etree.ElementTree as xml; \
	suite = next(xml.parse('$(REPORT)').iter('testsuite')); \
	ran = int(suite.get('tests')) - int(suite.get('skipped')); \
	sys.exit(None if ran > 0 else 'no test ran')"

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks all --report

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going --jobs auto $(SPHINX_OPTIONS) docs docs/_build/html

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build docs/_build docs/reference *.egg-info autobatch/record/compiled.c autobatch/record/compiled.*.so
	rm -rf $(VENV) .ci/venvs .bench-dynet .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find autobatch tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# One stamp per extra. Creating the environment again over a half-made one is harmless.
$(VENV)/.installed-%: pyproject.toml setup.py $(wildcard autobatch/record/compiled*.p[yx]*) $(VENV)/.created
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[$*]"
	@$(BIN)/python -c "from autobatch.record.choice import recorder; print('autobatch: the', recorder, 'recorder runs')"
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	'Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '; repair: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	@touch $@

.PRECIOUS: $(VENV)/.created $(VENV)/.installed-%
