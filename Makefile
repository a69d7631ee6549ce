# make demo    train a Tree-LSTM on the syntax trees of the standard library
# make test    lint, format, types, all tests
# make core    types, and the tests that tell one Python from another
# make bench   all benchmarks, beside PyTorch and NumPy by hand; writes a report
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

# What depends on the interpreter: its bytecode, memory, frames and signals, and what is computed by NumPy and Numba.
# Left out: single ops and stages, models, data, benchmarks, devices and their kernels, documents.
CORE := autobatch tests/test_architecture.py tests/test_checked.py \
	$(addprefix tests/,base engine expand explain map nn optim parity programs record)

# Only what is installed in $(VENV) counts, whatever the shell has set up.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX

.PHONY: demo test core bench format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	$(BIN)/autobatch train syntax-trees

test: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)
	@$(SOME_RAN)

core: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/mypy
	$(PYTEST) $(CORE)
	@$(SOME_RAN)

PYTEST = $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --junit-xml=$(REPORT)
SOME_RAN = $(BIN)/python -c "import sys, xml.etree.ElementTree as xml; \
	suite = next(xml.parse('$(REPORT)').iter('testsuite')); \
	ran = int(suite.get('tests')) - int(suite.get('skipped')); \
	sys.exit(None if ran > 0 else 'no test ran')"

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks all --report

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .ci/venvs .bench-dynet .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find autobatch tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# One stamp per extra. Creating the environment again over a half-made one is harmless.
$(VENV)/.installed-%: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[$*]"
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	'Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '; repair: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	@touch $@

.PRECIOUS: $(VENV)/.created $(VENV)/.installed-%
