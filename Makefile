# Everything runs in .venv, made and filled here; a second `make` finds the stamp files and installs nothing.
#   make test PYTHON=/path/to/python3.12     use this Python
#   make demo TORCH_INDEX=URL                a further package index, e.g. one that serves torch without CUDA
#   make test EXTRAS=dev,docs,nwb,tensorflow what `.ci/run` tests: nothing skips for want of a package

PYTHON ?=
TORCH_INDEX ?=
EXTRAS ?= dev,docs,nwb
PYTEST_ARGS ?=

BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -c constraints.txt
RIGHT_VERSION := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
DEMO_READY := .venv/installed
TEST_READY := .venv/installed-$(EXTRAS)

export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: help demo test lint docs clean-env
help:
	@echo 'make demo       simulate a recording set, infer its spike rates, print what came out (< 3 minutes after install)'
	@echo 'make test       the whole test suite'
	@echo 'make lint       ruff and mypy'
	@echo 'make docs       the documentation, in docs/_build/html'
	@echo 'make clean-env  delete .venv'

demo: $(DEMO_READY)
	$(BIN)/blockwise demo

test: $(TEST_READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(TEST_READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(TEST_READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo 'open docs/_build/html/index.html'

clean-env:
	rm -rf .venv

$(DEMO_READY): constraints.txt pyproject.toml
	@$(make_venv)
	$(INSTALL) -e .
	@touch '$@'

$(TEST_READY): constraints.txt pyproject.toml
	@$(make_venv)
	$(INSTALL) -e '.[$(EXTRAS)]'
	@touch '$@'

define make_venv
if $(BIN)/python -c '$(RIGHT_VERSION)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1; then exit 0; fi; \
if [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)"; else set -- python3.11 python3.12 python3.13 python3; fi; \
bare=; \
for python; do \
    "$$python" -c '$(RIGHT_VERSION)' 2>/dev/null || continue; \
    "$$python" -c 'import ensurepip, venv' 2>/dev/null || { bare=$$python; continue; }; \
    echo "making .venv with $$("$$python" --version)"; \
    "$$python" -m venv --clear .venv && exec $(BIN)/python -m pip install -q -c constraints.txt -U pip; exit; \
done; \
if [ -n "$$bare" ]; then \
    echo "$$bare comes without venv and ensurepip: install them (Debian and Ubuntu: apt-get install python3-venv), then run make again" >&2; \
else \
    echo "no Python 3.11, 3.12 or 3.13 found (tried $$*): install one from python.org or your package manager," \
         "or name it: make PYTHON=/path/to/python3.12" >&2; \
fi; \
exit 1
endef
