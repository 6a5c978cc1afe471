"""`make bench-gpu` goes through from beginning to end, with a tiny model where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import bench_gpu
import numpy as np
import pytest
import torch

from qa.model.window_dataset import WindowDataset
from qa.windows.read_windows import arrow_table

BENCH = Path(__file__).parents[3] / "benchmarks" / "bench_gpu.py"


def run(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # beside other tests, more threads wait for each other
    return subprocess.run([sys.executable, str(BENCH), *arguments], env=environment, capture_output=True, text=True)


def test_every_contestant_of_the_gpu_benchmark_has_its_turn():
    done = run("--cpu")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "of the matmul rate" in line]
    whats = [line.split(", batch")[0] for line in lines]
    for what in ("walkthrough, training", "run_qa style, training", "ours, prediction", "walkthrough, prediction"):
        assert what in whats
    ways = [what.removeprefix("ours, training, compile: ") for what in whats if what.startswith("ours, training")]
    assert ways[:3] == ["kernels", "none", "graphs"] and ways[3] in ways[:3]  # the other batches by the fastest
    assert all("packed rows" in line for line in lines if line.startswith("ours, training"))
    assert "| train | samples/s |" in done.stdout and "| predict | windows/s |" in done.stdout
    assert "written" not in done.stdout


def test_its_rows_are_as_long_as_squads(tmp_path):
    model = bench_gpu.roberta(tmp_path / "model", **bench_gpu.SMALL)
    windows = WindowDataset(arrow_table(bench_gpu.windows_of(tmp_path, model, 300, 3_000)), ["input_ids"])
    assert 175 < windows.lengths.mean() < 187
    assert 0.01 < np.mean(windows.lengths == 384) < 0.03


def test_without_a_gpu_it_says_so_and_measures_nothing():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run()
    assert done.returncode == 1 and "needs a CUDA GPU" in done.stderr and not done.stdout
