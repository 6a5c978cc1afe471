"""Training that stops in time, is told to, or is killed, goes on with nothing lost; on one process and on several."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from test_train import SETTINGS, TEXTS, Killed, history, inputs, train, undisturbed  # noqa: F401, fixtures

import tiny
from qa.common.errors import InputError, Interrupted
from qa.common.files import sha256_of_folder
from qa.jobs import interruption, slurm
from qa.training import callbacks, checkpoints, distributed, trainer
from qa.training.batch_sampler import EpochBatchSampler
from qa.training.checkpoints import TrainingMemory


def outputs_of(folder):
    return {
        "model": folder / "model",
        "training.csv": folder / "training.csv",
        "manifest.json": folder / "manifest.json",
    }


def at_each_step(patch, action):
    """Call `action(step)` at each step's end, before anything else does."""

    def on_step_end(self, args, state, control, **kwargs):
        action(state.global_step)

    patch.setattr(callbacks.SetEpochCallback, "on_step_end", on_step_end)


# --- the order of windows


@given(st.lists(st.integers(1, 384), min_size=1, max_size=90), st.sampled_from([1, 2, 4]), st.booleans())
def test_an_epoch_holds_each_window_once_whatever_the_parts(lengths, parts, even):
    batches = EpochBatchSampler(np.array(lengths), 8, 3, parts, even)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    assert len(list(batches)) == len(batches)


@given(st.lists(st.integers(1, 384), min_size=1, max_size=90), st.sampled_from([2, 4, 8]), st.booleans())
def test_each_optimizer_step_takes_the_same_windows_whatever_the_parts(lengths, parts, even):
    whole = list(EpochBatchSampler(np.array(lengths), 8, 3, even=even))
    pieces = list(EpochBatchSampler(np.array(lengths), 8, 3, parts, even))
    steps = [pieces[first : first + parts] for first in range(0, len(pieces), parts)]
    assert [sorted(number for piece in step for number in piece) for step in steps] == [sorted(each) for each in whole]


@given(
    st.integers(8, 90),
    st.sampled_from([1, 2]),
    st.sampled_from([2, 4]),
    st.booleans(),
    st.integers(0, 3),
)
def test_processes_share_each_batch_of_a_single_one(windows, parts, processes, even, epoch):
    def of(rank, among):
        batches = EpochBatchSampler(np.arange(windows) % 13, 8, 5, parts, even, rank, among)
        batches.set_epoch(epoch)
        return list(batches)

    shares = [of(rank, processes) for rank in range(processes)]
    for alone, *pieces in zip(of(0, 1), *shares, strict=True):
        together = [number for piece in pieces for number in piece]
        assert sorted(together) == sorted(alone) if len(alone) >= processes else set(together) == set(alone)
        assert all(pieces) and max(map(len, pieces)) - min(map(len, pieces)) <= 1


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_order_is_the_one_that_the_trainer_gives(epoch, tmp_path):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 37

        def __getitem__(self, number):
            return {"number": number}

    plain = transformers.Trainer(
        model=torch.nn.Linear(1, 1),
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path), seed=11, per_device_train_batch_size=4, use_cpu=True, remove_unused_columns=False
        ),
        train_dataset=Rows(),
        data_collator=lambda rows: {"numbers": torch.tensor([row["number"] for row in rows])},
    )
    loader = plain.get_train_dataloader()
    loader.set_epoch(epoch)
    batches = EpochBatchSampler(np.ones(37), 4, 11)
    batches.set_epoch(epoch)
    assert [batch["numbers"].tolist() for batch in loader] == list(batches)


@pytest.mark.parametrize("parts", [1, 2])
def test_even_batches_have_nearly_as_many_tokens_and_other_neighbours_each_epoch(parts):
    lengths = np.random.default_rng(0).gamma(5.0, 36.0, 3_210).clip(30, 384).astype(int)
    plain, even = (EpochBatchSampler(lengths, 32, 7, parts, even=even) for even in (False, True))
    spread = [np.std([lengths[batch].sum() for batch in list(batches)[:-2]]) for batches in (plain, even)]
    assert spread[1] < spread[0] / 5
    assert len(list(even)) == len(even) == len(plain)
    first = [set(batch) for batch in even]
    even.set_epoch(1)
    assert max(len(one & other) for one in first for other in map(set, even)) < 8


# --- stopping and going on


@pytest.fixture
def in_a_terminal():
    """Signals of a terminal have their usual handlers; tests in the background may ignore them."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("in_a_terminal")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP"])
def test_a_signal_saves_at_the_step_it_finds_and_the_end_has_the_same_bytes(name, inputs, undisturbed, tmp_path):  # noqa: F811
    def kill(step):
        if step == stop_at:
            os.kill(os.getpid(), getattr(signal, name))

    for stop_at in (1, 5):
        with pytest.MonkeyPatch.context() as patch:
            at_each_step(patch, kill)
            with pytest.raises(Interrupted, match=rf"stopped at step {stop_at} of 7, since {name} "):
                train(inputs, tmp_path)
        assert not (tmp_path / "model").exists()
    train(inputs, tmp_path)
    assert sha256_of_folder(tmp_path / "model") == sha256_of_folder(undisturbed / "model")
    assert history(tmp_path) == history(undisturbed)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [attempt["resumed_at_step"] for attempt in manifest["attempts"]] == [0, 1, 5]
    outcomes = [attempt["outcome"] for attempt in manifest["attempts"]]
    assert all(outcome.startswith(f"stopped: {name} ") for outcome in outcomes[:2]) and outcomes[2:] == ["completed"]
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@pytest.mark.usefixtures("in_a_terminal")
def test_a_second_ctrl_c_ends_at_once_and_an_ignored_one_stays_ignored():
    requests = interruption.Requests()
    with interruption.signals_handled(requests.note):
        signal.raise_signal(signal.SIGINT)
        assert requests.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = interruption.Requests()
    with interruption.signals_handled(requests.note):
        signal.raise_signal(signal.SIGINT)
        assert requests.received is None


def test_a_training_of_several_walltimes_ends_with_the_same_bytes(inputs, undisturbed, tmp_path, monkeypatch):  # noqa: F811
    """A step takes as long as it does; the walltime ends 1.5 measured steps after the third."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    ends = {}

    def shorten(step):
        if step == first + 2:
            ends["left"] = 0.001

    monkeypatch.setattr(slurm, "end_of", lambda job: time.time() + ends["left"])
    monkeypatch.setattr(interruption, "ASK_AGAIN", 0.0)
    for first in (1, 4):
        ends["left"] = 3600.0
        with monkeypatch.context() as patch:
            at_each_step(patch, shorten)
            with pytest.raises(Interrupted, match=f"stopped at step {first + 2} of 7, since its walltime is about"):
                train(inputs, tmp_path, every_steps=100)
    ends["left"] = 3600.0
    train(inputs, tmp_path, every_steps=100)
    assert sha256_of_folder(tmp_path / "model") == sha256_of_folder(undisturbed / "model")
    assert history(tmp_path) == history(undisturbed)


def test_the_margin_before_the_walltime_follows_what_steps_saves_and_validations_took():
    pace = interruption.Pace()
    pace.steps.extend([0.5, 2.0, 1.0])
    assert pace.needed(1, validation=False) == 2 * (2.0 + 2.0)  # no checkpoint yet: counts as a step
    pace.save, pace.validation = 3.0, 10.0
    assert pace.needed(1, validation=False) == 2 * (2.0 + 3.0)
    assert pace.needed(5, validation=True) == 2 * (10.0 + 3.0 + 10.0)


def test_the_walltime_is_slurms_and_where_it_does_not_answer_the_asked_one(monkeypatch):
    assert interruption.Walltime(180).left() is None  # no job, nobody who ends it
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm, "end_of", lambda job: None)
    running = time.time() - psutil.Process().create_time()
    assert interruption.Walltime(180).left() == pytest.approx(180 * 60 - running, abs=60)
    monkeypatch.setattr(slurm, "end_of", lambda job: time.time() + 60)
    assert 0 < interruption.Walltime(180).left() <= 60


def test_under_a_walltime_the_first_step_is_saved(inputs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm, "end_of", lambda job: time.time() + 3600)
    train(inputs, tmp_path, killed_at=2, monkeypatch=monkeypatch, every_steps=100)
    assert list((tmp_path / "checkpoints").glob("r/seed-1/*/checkpoint-1"))


def test_an_end_of_epoch_is_validated_before_a_stop_saves_it(inputs, tmp_path):  # noqa: F811
    settings = {**SETTINGS, "max_steps": None, "epochs": 2}
    once, twice = train(inputs, tmp_path / "once", settings=settings), tmp_path / "twice"
    steps = json.loads((once / "manifest.json").read_text())["steps"] // 2
    with pytest.MonkeyPatch.context() as patch:
        at_each_step(patch, lambda step: step == steps and os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted, match=f"stopped at step {steps} "):
            train(inputs, twice, settings=settings)
    train(inputs, twice, settings=settings)
    assert history(twice) == history(once)
    assert sha256_of_folder(twice / "model") == sha256_of_folder(once / "model")


def test_a_full_disk_is_said_with_the_place_and_leaves_the_checkpoint_before(inputs, tmp_path, monkeypatch):  # noqa: F811
    def full(self, output_dir):
        if output_dir.endswith("checkpoint-6"):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.WindowTrainer, "_save_rng_state", full)
        with pytest.raises(
            InputError, match=r"No space left on device, or quota full: make room .*; the checkpoint of step 6 is not"
        ):
            train(inputs, tmp_path)
    train(inputs, tmp_path)
    attempts = json.loads((tmp_path / "manifest.json").read_text())["attempts"]
    assert [(attempt["resumed_at_step"], attempt["outcome"]) for attempt in attempts] == [
        (0, "failed"),
        (3, "completed"),
    ]


# --- several processes


@pytest.fixture(scope="module")
def quiet(inputs, tmp_path_factory):  # noqa: F811
    """The same inputs with a model without dropout, whose losses do not depend on who computes which window."""
    folder = tmp_path_factory.mktemp("quiet")
    return {**inputs, "model": str(tiny.save_model(folder / "model", TEXTS, dropout=0.0))}


def losses(folder):
    return [float(row[key]) for row in history(folder) for key in ("loss", "validation_loss") if row[key]]


def test_two_processes_train_as_one_within_rounding(quiet, tmp_path):
    settings = {**SETTINGS, "max_steps": None, "epochs": 2}  # the last batch of an epoch is short
    one = train(quiet, tmp_path / "one", settings=settings)
    two = train(quiet, tmp_path / "two", settings=settings, gpus=2)
    assert losses(two) == pytest.approx(losses(one), rel=2e-5)
    assert json.loads((two / "manifest.json").read_text())["gpus"] == 2


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.6"),
    reason="this transformers cannot resume several processes without a GPU: it loads their optimizer to cpu:0",
)
def test_two_processes_told_to_stop_save_and_go_on(quiet, tmp_path):
    settings = {**SETTINGS, "max_steps": 60}
    alone = train(quiet, tmp_path / "alone", settings=settings)
    told = []

    def tell():
        found = list((tmp_path / "told").glob("checkpoints/r/seed-1/*/checkpoint-*/complete.json"))
        if found and not told:
            told.append(found)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        wait = subprocess.Popen.wait
        patch.setattr(subprocess.Popen, "wait", lambda self, timeout=None: tell() or wait(self, timeout and 0.02))
        with pytest.raises(Interrupted, match=r"stopped at step \d+ of 60, since SIGTERM was received"):
            train(quiet, tmp_path / "told", settings=settings, gpus=2)
    train(quiet, tmp_path / "told", settings=settings, gpus=2)
    assert losses(tmp_path / "told") == pytest.approx(losses(alone), rel=1e-2)
    attempts = json.loads((tmp_path / "told" / "manifest.json").read_text())["attempts"]
    assert len(attempts) == 2 and attempts[1]["resumed_at_step"] > 0


def test_another_number_of_processes_does_not_resume(quiet, tmp_path, monkeypatch):
    train(quiet, tmp_path, killed_at=5, monkeypatch=monkeypatch)

    def launch(attempt):
        assert attempt.resume is None
        raise InputError("launched")

    monkeypatch.setattr(distributed, "launch", launch)
    with pytest.raises(InputError, match="launched"):
        train(quiet, tmp_path, gpus=2)


def test_what_a_process_raises_is_raised_by_the_training(quiet, tmp_path):
    settings = {**SETTINGS, "overrides": {"num_attention_heads": 3}}
    with pytest.raises((InputError, RuntimeError), match="hidden size|num_attention_heads|heads"):
        train(quiet, tmp_path, settings=settings, gpus=2)


# --- who else is at work, and results that nobody took note of


def attempt(**changes):
    now = datetime.now(UTC).isoformat(timespec="seconds")
    here = {"started": now, "seen": now, "resumed_at_step": 0, "step": 3, "outcome": "running"}
    return {**here, "slurm_job_id": None, "node": os.uname().nodename, "pid": 1, **changes}


@pytest.mark.parametrize(
    ("changes", "state", "alive"),
    [
        ({"outcome": "killed"}, None, False),
        ({"slurm_job_id": "9"}, "RUNNING", True),
        ({"slurm_job_id": "9"}, "PENDING", True),  # requeued
        ({"slurm_job_id": "9"}, "TIMEOUT", False),
        ({"slurm_job_id": "9"}, "GONE", False),
        ({"slurm_job_id": "9"}, None, True),  # cannot be asked, seen just now
        ({"slurm_job_id": "9", "seen": "2026-01-01T00:00:00+00:00"}, None, False),
        ({"slurm_job_id": "7"}, "RUNNING", False),  # this job itself, requeued
        ({}, None, False),  # process 1 is no training
        ({"node": "elsewhere"}, None, True),
        ({"node": "elsewhere", "seen": "2026-01-01T00:00:00+00:00"}, None, False),
    ],
)
def test_whether_an_attempt_is_at_work(changes, state, alive, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm, "state_of", lambda job: state)
    assert checkpoints.is_alive(attempt(**changes)) is alive


def test_two_jobs_never_train_the_same(tmp_path, monkeypatch):
    memory = TrainingMemory(tmp_path, "fingerprint")
    memory.begin()
    other = [attempt(slurm_job_id="9", node="n1")]
    (memory.checkpoints / "attempts.json").write_text(json.dumps(other))
    monkeypatch.setattr(slurm, "state_of", lambda job: "RUNNING")
    with pytest.raises(
        InputError, match=r"SLURM job 9 on n1 is still training this, at step 3; wait for it, or cancel"
    ):
        TrainingMemory(tmp_path, "fingerprint").begin()


def test_a_result_that_nobody_took_note_of_is_taken_and_not_trained_again(inputs, tmp_path, caplog):  # noqa: F811
    caplog.set_level("INFO")
    train(inputs, tmp_path)
    made = {name: path.read_bytes() for name, path in outputs_of(tmp_path).items() if path.is_file()}
    weights = sha256_of_folder(tmp_path / "model")
    (noted,) = (tmp_path / "checkpoints").glob("r/seed-1/*/attempts.json")
    (own,) = json.loads(noted.read_text())
    noted.write_text(json.dumps([own | {"slurm_job_id": "41", "node": "n1"}]))
    for path in outputs_of(tmp_path).values():  # as Snakemake does before each attempt
        checkpoints.remove(path)
    train(inputs, tmp_path)
    assert "finished by SLURM job 41 on n1 after Snakemake had gone: its result is taken" in caplog.text
    assert {name: path.read_bytes() for name, path in outputs_of(tmp_path).items() if path.is_file()} == made
    assert sha256_of_folder(tmp_path / "model") == weights
    checkpoints.forget_results(tmp_path / "checkpoints" / "r" / "seed-1")
    assert not (tmp_path / "checkpoints").exists() and sha256_of_folder(tmp_path / "model") == weights
    train(inputs, tmp_path)
    assert len(json.loads((tmp_path / "manifest.json").read_text())["attempts"]) == 1


def test_the_time_of_all_attempts_is_told():
    start = datetime(2026, 5, 1, tzinfo=UTC)
    attempts = [
        attempt(started=(start + timedelta(hours=n)).isoformat(), seen=(start + timedelta(hours=n + 0.5)).isoformat())
        for n in range(3)
    ]
    assert checkpoints.seconds_of(attempts) == 5400


# --- signals that SLURM sends to Snakemake only


def test_signals_are_passed_on_to_the_stages_script_and_spare_snakemake(tmp_path):
    script = tmp_path / ".snakemake" / "scripts" / "stage.py"
    script.parent.mkdir(parents=True)
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "seen = []\n"
        "for number in (signal.SIGTERM, signal.SIGUSR1):\n"
        "    signal.signal(number, lambda number, frame: seen.append(signal.Signals(number).name))\n"
        "pathlib.Path(sys.argv[1]).write_text('ready')\n"
        "while len(seen) < 2:\n"
        "    time.sleep(0.02)\n"
        "print(sorted(seen), flush=True)\n"
    )
    waiting = (
        "import signal, subprocess, sys\n"
        "from qa.jobs.interruption import pass_on_signals\n"
        "pass_on_signals('.snakemake/scripts')\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: None)\n"  # as Snakemake's scheduler does, later
        f"sys.exit(subprocess.run([sys.executable, {str(script)!r}, {str(tmp_path / 'ready')!r}]).returncode)\n"
    )
    environment = {**os.environ, "SLURM_JOB_ID": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", waiting], env=environment, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.1)
    assert process.communicate(timeout=900)[0].strip() == "['SIGTERM', 'SIGUSR1']"
    assert process.returncode == 0
