"""`make bench-gpu` goes through from beginning to end, with a tiny model where there is no GPU."""

import json
import sys

import numpy as np
import pytest
import torch

import bench_gpu
import gpu_changes
from qa.model.window_dataset import WindowDataset
from qa.windows.read_windows import arrow_table


def test_every_contestant_of_the_gpu_benchmark_has_its_turn(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--cpu"])
    assert bench_gpu.main() == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "of the matmul rate" in line]
    whats = [line.split(", batch")[0] for line in lines]
    for what in ("walkthrough, training", "run_qa style, training", "ours, prediction", "walkthrough, prediction"):
        assert what in whats
    ways = [what.removeprefix("ours, training, compile: ") for what in whats if what.startswith("ours, training")]
    assert ways[:3] == ["kernels", "none", "graphs"] and ways[3] in ways[:3]  # the other batches by the fastest
    assert all("packed rows" in line for line in lines if line.startswith("ours, training"))
    assert "| train | samples/s |" in printed and "| predict | windows/s |" in printed
    assert "written" not in printed


def test_its_rows_are_as_long_as_squads(tmp_path):
    model = bench_gpu.roberta(tmp_path / "model", **bench_gpu.SMALL)
    windows = WindowDataset(arrow_table(bench_gpu.windows_of(tmp_path, model, 300, 3_000)), ["input_ids"])
    assert 175 < windows.lengths.mean() < 187
    assert 0.01 < np.mean(windows.lengths == 384) < 0.03


def test_deberta_is_trained_on_the_same_windows_packed_and_padded(tmp_path):
    model = bench_gpu.roberta(tmp_path / "model", **bench_gpu.SMALL)
    windows = bench_gpu.windows_of(tmp_path, model, 5, 20)
    deberta, computed = bench_gpu.deberta(tmp_path / "deberta", model, **bench_gpu.SMALL), []
    for _, own in gpu_changes.OF_DEBERTA:
        computed.append(bench_gpu.own_training(deberta, windows, own, 2, 1, 1)["computed"])
    assert computed[0].startswith("packed rows, attention by turns") and computed[1].startswith("padded rows")


def test_every_change_of_the_training_step_has_its_turn(monkeypatch, tmp_path):
    seen, plain = [], (gpu_changes.step.prepare, gpu_changes.joined_products.join)
    monkeypatch.setattr(sys, "argv", ["gpu_changes.py", "--cpu", "--out", str(tmp_path / "found.json")])

    def trained(bench, own):
        if own.compile == "kernels":
            raise RuntimeError("no compiler")
        seen.append((gpu_changes.step.prepare is plain[0], own.deterministic))
        bench.note("ours", own.batch, 1.0, 3)

    monkeypatch.setattr(bench_gpu.Bench, "own_train", trained)
    assert gpu_changes.main() == 0
    found = json.loads((tmp_path / "found.json").read_text())["changes"]
    assert len(found) == len(gpu_changes.TRAININGS) + len(gpu_changes.OF_DEBERTA) + 4
    assert [line["change"].split(",")[0] for line in found[-2:]] == ["DeBERTa", "DeBERTa"]
    assert [line["failed"] for line in found if line["change"] == "kernels"] == ["RuntimeError: no compiler"]
    assert {*seen} == {(True, False), (False, False), (True, True)}
    assert plain == (gpu_changes.step.prepare, gpu_changes.joined_products.join)  # each switch is put back


def test_without_a_gpu_it_says_so_and_measures_nothing(monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py"])
    assert bench_gpu.main() == 1
    printed = capsys.readouterr()
    assert "needs a CUDA GPU" in printed.err and not printed.out
