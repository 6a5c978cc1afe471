"""Reports of training: the Trainer really writes them, they change no result, and a missing package is told at once."""

import os

import pytest

import tiny
import trainings
from qa.common.errors import InputError
from qa.common.files import sha256_of_folder
from qa.data.prepare_questions import convert
from qa.preflight.checks import check_optional_packages
from qa.preflight.plan import Plan, PlannedTraining
from qa.training import fit, trackers
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with what a training needs, and an environment that is put back."""
    monkeypatch.chdir(tmp_path)
    for name in ("TENSORBOARD_LOGGING_DIR", *(n for n in os.environ if n.startswith("WANDB_"))):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    tiny.save_model(tmp_path / "base")
    convert([tiny.write_squad(tmp_path / "q.json", questions=12)], tmp_path / "r.parquet")
    tokenize(tmp_path / "r.parquet", load_tokenizer(tmp_path / "base"), tiny.WINDOWS, tmp_path / "windows")
    yield tmp_path
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def train(folder, name, report_to):
    inputs = {"model": str(folder / "base"), "windows": [str(folder / "windows")]}
    options = tiny.RUNTIME_OPTIONS | {"report_to": report_to}
    trainings.train(inputs, folder / name, tiny.TRAINING | {"max_steps": 3}, options)
    return sha256_of_folder(folder / name / "model")


def test_the_trainer_writes_tensorboards_files_to_the_runs_folder_and_trains_the_same(project):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    silent = train(project, "silent", [])
    assert not (project / "logs").exists()
    trackers.prepare(["tensorboard"], "r", "seed-1")
    assert train(project, "told", ["tensorboard"]) == silent
    (file,) = (project / "logs/tensorboard/r/seed-1").glob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]


def test_the_settings_reach_the_trainer_and_nothing_is_reported_by_default(project):
    def reported(report_to):
        spec = trainings.spec_of({"model": "m"}, options=tiny.RUNTIME_OPTIONS | {"report_to": report_to})
        return fit.training_arguments(spec, project / "c").report_to

    assert reported([]) == [] and reported(["tensorboard", "wandb"]) == ["tensorboard", "wandb"]


def test_wandb_stays_offline_in_a_folder_of_the_run(project, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("WANDB_MODE", "online")
    trackers.prepare(["wandb"], "r", "seed-1")
    assert os.environ["WANDB_MODE"] == "offline" and (project / "logs/wandb/r/seed-1").is_dir()
    assert os.environ["WANDB_DIR"] == "logs/wandb/r/seed-1" and "TENSORBOARD_LOGGING_DIR" not in os.environ


def test_a_missing_package_is_told_in_one_line_before_anything_starts(project, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        trackers.prepare(["wandb"], "r", "seed-1")
    assert "report_to: wandb needs the Python package wandb" in str(caught.value) and "\n" not in str(caught.value)
    trackers.prepare([], "r", "seed-1")
    plan = Plan({}, trainings=(PlannedTraining("m", "c", 1, report_to=("tensorboard",)),) * 2)
    (found,) = check_optional_packages(plan)
    assert "tensorboard" in found.text
    assert not list(check_optional_packages(Plan({}, trainings=plan.trainings, packages=False)))
