# make demo    train a Tree-LSTM on the syntax trees of the standard library
# make test    lint, format, types, all tests
# make bench   all benchmarks, beside PyTorch and NumPy by hand; writes a report
# make format  put the sources into the formatter's shape
# make clean   remove the environment and everything that was generated
#
# Needs Python (another one: make PYTHON=python3.12) and a package index. The environment lives in $(VENV), is made on
# first use, and is brought up to date when pyproject.toml changes.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
REPORT := $(VENV)/test-report.xml

# Only what is installed in $(VENV) counts, whatever the shell has set up.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX

.PHONY: demo test bench format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	$(BIN)/autobatch train syntax-trees

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --junit-xml=$(REPORT)
	@$(BIN)/python -c "import sys, xml.etree.ElementTree as xml; \
	suite = next(xml.parse('$(REPORT)').iter('testsuite')); \
	ran = int(suite.get('tests')) - int(suite.get('skipped')); \
	sys.exit(None if ran > 0 else 'no test ran')"

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks all --report

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .ci/venv .bench-dynet .mypy_cache .pytest_cache .ruff_cache .hypothesis
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
