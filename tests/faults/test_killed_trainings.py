"""A training killed before each of its file operations, and within the writing of its files, and then resumed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny
from killing import SEED, results_in
from qa.common.files import sha256_of_folder
from qa.data.prepare_questions import convert
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

SETTINGS = tiny.TRAINING | {"max_steps": None, "epochs": 2, "batch_size": 16, "keep_epoch": "best"}
OPTIONS = tiny.RUNTIME_OPTIONS | {"every_steps": 2}
TESTS = Path(__file__).parents[1]
PARTS = 5  # tests that the operations are dealt out to


class Trainings:
    """Forked trainings of the same inputs."""

    def __init__(self, folder: Path):
        self.folder = folder
        tiny.save_model(folder / "given" / "model", [p["context"] for p in tiny.squad(30)["data"][0]["paragraphs"]])
        for name in ("train", "held"):
            convert([tiny.write_squad(folder / f"{name}.json", questions=12, prefix=name)], folder / f"{name}.parquet")
            tokenizer = load_tokenizer(folder / "given" / "model")
            tokenize(folder / f"{name}.parquet", tokenizer, tiny.WINDOWS, folder / name)
        self.inputs = {
            "model": str(folder / "given" / "model"),
            "windows": [str(folder / "train")],
            "validation": [str(folder / "held")],
            "held_out_windows": [str(folder / "held")],
            "held_out_records": [str(folder / "held.parquet")],
        }
        paths = os.pathsep.join([str(TESTS.parent / "workflow" / "scripts"), str(TESTS / "helpers")])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forked_trainings"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def train(
        self, folder: Path, operation: int | None = None, size: int | None = None, versions: Any = None, **other: Any
    ) -> tuple[int, int]:
        """Train in a folder, with `other` settings; the signal that ended it, 0 for none, and its file operations."""
        folder.mkdir(exist_ok=True)
        outputs = {
            "model": "model",
            "history": "training.csv",
            "manifest": "manifest.json",
            "checkpoints": "c/r/seed-1",
        }
        task = {"inputs": self.inputs, "settings": {**SETTINGS, **other}, "options": OPTIONS, "outputs": outputs}
        task |= {"folder": str(folder), "operation": operation, "bytes": size, "versions": versions}
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        assert not os.WIFEXITED(told["status"]) or not told["status"], (folder / "output.txt").read_text()
        return os.WTERMSIG(told["status"]), told["operations"]

    def resumed(self, folder: Path) -> dict[str, str]:
        """What a killed training has made when it was started again, as Snakemake starts it: without its outputs."""
        for name in ("model", "training.csv", "manifest.json"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        assert self.train(folder)[0] == 0
        return results_in(folder, ["model", "training.csv", "manifest.json"])


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    trainings = Trainings(tmp_path_factory.mktemp("trainings"))
    yield trainings
    trainings.process.stdin.close()
    trainings.process.wait()


@pytest.fixture(scope="module")
def undisturbed(trainings):
    """What a training makes that nobody killed, and the number of its file operations."""
    folder = trainings.folder / "undisturbed"
    ended, operations = trainings.train(folder)
    assert ended == 0 and operations > 50
    return results_in(folder, ["model", "training.csv", "manifest.json"]), operations


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_before_any_file_operation_it_ends_as_if_it_had_not_been(part, trainings, undisturbed, tmp_path):
    results, operations = undisturbed
    for operation in range(1 + part, operations + 1, PARTS):
        folder = tmp_path / str(operation)
        assert trainings.train(folder, operation)[0] == signal.SIGKILL
        assert trainings.resumed(folder) == results, f"killed before file operation {operation}"


@pytest.mark.parametrize("seed", [f"{SEED}.{number}" for number in range(4)])
def test_killed_while_it_writes_a_file_it_ends_as_if_it_had_not_been(seed, trainings, undisturbed, tmp_path):
    results, operations = undisturbed
    draw, killed = random.Random(seed), 0
    for attempt in range(10):
        folder, operation = tmp_path / str(attempt), draw.randint(1, operations)
        size = draw.choice([1, draw.randint(1, 1_000), draw.randint(1_000, 100_000)])
        ended, _ = trainings.train(folder, operation, size)
        assert ended in (0, signal.SIGXFSZ)  # none is larger after the last operations
        killed += ended == signal.SIGXFSZ
        assert trainings.resumed(folder) == results, f"killed after operation {operation} by {size} bytes"
    assert killed >= 5


def test_killed_again_and_again_it_ends_as_if_it_had_not_been(trainings, undisturbed, tmp_path):
    results, operations = undisturbed
    draw, folder = random.Random(SEED), tmp_path / "often"
    for _ in range(20):
        if not trainings.train(folder, draw.randint(1, operations // 2))[0]:
            break
    assert trainings.resumed(folder) == results


def half_trained(trainings, operations, folder, **other):
    """A training that was killed when it had saved a checkpoint or two; the newest of them."""
    assert trainings.train(folder, operations // 2, **other)[0] == signal.SIGKILL
    saved = [path.parent for path in folder.glob("c/r/seed-1/*/checkpoint-*/complete.json")]
    return max(saved, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def attempts(folder):
    return json.loads((folder / "manifest.json").read_text())["attempts"]


@pytest.mark.parametrize("damage", ["gone", "empty", "half"])
def test_a_checkpoint_that_lost_any_of_its_files_is_not_resumed(damage, trainings, undisturbed, tmp_path):
    results, operations = undisturbed
    whole = half_trained(trainings, operations, tmp_path / "half")
    step = int(whole.name.removeprefix("checkpoint-"))
    names = sorted(path.name for path in whole.iterdir())
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "complete.json"} <= {*names}
    for name in names:
        shutil.copytree(tmp_path / "half", tmp_path / name)
        file = tmp_path / name / whole.relative_to(tmp_path / "half") / name
        file.unlink() if damage == "gone" else os.truncate(file, file.stat().st_size // 2 * (damage == "half"))
        assert trainings.resumed(tmp_path / name) == results, name
        assert attempts(tmp_path / name)[-1]["resumed_at_step"] < step


OTHERS = {
    "a setting": {"learning_rate": 0.002},
    "deterministic": {"deterministic": True},
    "a version": {"versions": {"torch": "1.0"}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_configuration_or_version_stays_and_is_not_resumed(
    name, trainings, undisturbed, tmp_path
):
    results, operations = undisturbed
    folder = tmp_path / "other"
    other = half_trained(trainings, operations, folder, **OTHERS[name])
    before = sha256_of_folder(other)
    assert trainings.train(folder, operations // 2)[0] == signal.SIGKILL
    assert sha256_of_folder(other) == before  # for whoever changes back
    assert trainings.resumed(folder) == results
    assert attempts(folder)[0]["resumed_at_step"] == 0
    assert not other.exists()  # now that this training has succeeded
