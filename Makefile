# make demo    a sweep of the example project, from nothing but Python and make
# make test    the tests that are fast     make test-slow  those that take seconds each
# make test-long    those that take minutes   make test-all   all of these
# make test-heavy   those that need torch, JAX and what stands on them, which it installs: some gigabytes
# make lint    ruff, import-linter and mypy               make format     what ruff can mend by itself
# make tables  writes the tables of README and docs anew, from the code and benchmarks/results
# make pictures  draws the README's pictures anew         make package    builds what is released, and checks it
# make test-install  those that make environments: README's commands on a clean machine, and the packages
# make coverage                            make clean      removes the environment and what the tools left
#
# PYTHON chooses the interpreter, VENV the environment that is made with it, PYTEST_ARGS is handed to pytest.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What an installed, not editable, copy is made of: a change in it calls for a new one.
SOURCES := $(shell find hsm hydra_plugins -type f -not -name '*.pyc')

# Each stamp is newer than what it was made from, so a second call installs nothing.
CREATED := $(VENV)/.created
DEV := $(VENV)/.installed-dev
HEAVY := $(VENV)/.installed-heavy
PACKAGING := $(VENV)-package/.created
# An environment that was made for the tests already serves the demo as well.
DEMO := $(if $(wildcard $(DEV)),$(DEV),$(VENV)/.installed-demo)

.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-long test-all test-heavy test-install lint format tables pictures package coverage clean

demo: $(DEMO)
	$(BIN)/python examples/train.py -m \
	    hydra/launcher=hsm_local hydra.launcher.max_parallel_jobs=4 \
	    hydra.launcher.metric=validation_accuracy hydra.launcher.direction=maximize \
	    model=svm,logistic model.C=0.1,1,10 seed=0,1
	@printf '\nnext: the results of all jobs in one table, and their means over the seeds\n\n'
	@printf '    $(BIN)/hsm collect-results %s\n' '' '--over seed'

test: $(DEV)
	$(BIN)/pytest $(PYTEST_ARGS)

test-slow: $(DEV)
	$(BIN)/pytest -m "slow and not long and not heavy" $(PYTEST_ARGS)

test-long: $(DEV)
	$(BIN)/pytest -m "long and not heavy" $(PYTEST_ARGS)

test-all: $(DEV)
	$(BIN)/pytest -m "not heavy and not install" $(PYTEST_ARGS)

test-heavy: $(HEAVY)
	$(BIN)/pytest -m heavy -n 1 $(PYTEST_ARGS) tests/local tests/integrations

# A new HOME has no packages that pip has loaded before.
test-install: $(DEV)
	PIP_CACHE_DIR="$${PIP_CACHE_DIR:-$$($(PIP) cache dir)}" \
	    $(BIN)/pytest -m install -o faulthandler_timeout=0 $(PYTEST_ARGS) tests/install

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: $(DEV)
	PYTHONPATH=tests $(BIN)/python tests/docs/test_docs.py

pictures: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m helpers.pictures

package: $(PACKAGING)
	rm -rf dist
	$(VENV)-package/bin/python -m build --quiet
	$(VENV)-package/bin/twine check --strict dist/*

coverage: $(DEV)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

clean:
	rm -rf $(VENV) $(VENV)-package build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("hsm needs Python 3.10 or newer; $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: pyproject.toml $(SOURCES) | $(CREATED)
	@echo "installing hsm and scikit-learn into $(VENV) (about a minute) ..."
	$(PIP) install '.[examples]'
	@touch $@

$(DEV): pyproject.toml hsm/_version.py | $(CREATED)
	$(PIP) install --quiet --editable '.[dev,examples]'
	@touch $@

$(PACKAGING): | $(CREATED)
	$(PYTHON) -m venv $(VENV)-package
	$(VENV)-package/bin/python -m pip --disable-pip-version-check install --quiet build twine
	@touch $@

$(HEAVY): pyproject.toml | $(DEV)
	$(PIP) install --quiet --editable '.[dev,examples,heavy]'
	@touch $@
