# Every target leaves the environment in .venv.  PETSC=source builds PETSc from PyPI instead of using
# the system's packages.  All that setting up means is in scripts/setup.sh.
SHELL := /bin/bash
PETSC ?= auto
export PETSC

ready  := .venv/.ready
python := $(wildcard kswgd_hpc spde tests benchmarks scripts)

.PHONY: setup demo test lint format clean distclean FORCE
setup: $(ready)

demo: $(ready)
	. scripts/environment.sh && mpiexec -n 2 python -m kswgd_hpc.run examples/allen_cahn.yaml

test: $(ready)
	bash scripts/test.sh

lint: $(ready)
	.venv/bin/python -m ruff check $(python)
	.venv/bin/python -m ruff format --check $(python)

format: $(ready)
	.venv/bin/python -m ruff check --fix $(python)
	.venv/bin/python -m ruff format $(python)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find $(python) -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv

$(ready): scripts/setup.sh pyproject.toml setup.cfg
	bash scripts/setup.sh

# The stamp names the route that made the environment; asking for another route makes it anew.
ifeq ($(PETSC),source)
ifneq ($(shell cat $(ready) 2>/dev/null),source)
$(ready): FORCE
endif
endif
FORCE:
