"""Fine-tuning with the Hugging Face Trainer: same inputs, same weights; resumed where it stopped."""

import logging
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainerState

from qa.common import checksums
from qa.common.errors import InputError, Interrupted
from qa.common.files import digest_of_json, write_csv, write_json
from qa.jobs.interruption import Requests, signals_handled
from qa.model.loading import load_model, save_model
from qa.training import distributed, manifest
from qa.training.checkpoints import TrainingMemory, seconds_of
from qa.training.drawn_questions import windows_of_drawn
from qa.training.fit import epochs_module, fit
from qa.training.spec import Attempt, Identity, TrainingOutputs, TrainingSpec
from qa.windows.read_windows import arrow_table

CSV_COLUMNS = {
    "step": "step",
    "epoch": "epoch",
    "loss": "loss",
    "eval_loss": "validation_loss",
    "eval_calibration_exact": "calibration_exact",
    "eval_calibration_f1": "calibration_f1",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "samples_per_second": "samples_per_second",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A finished training: its model, the Trainer's state after the last step, and the peak memory in GiB."""

    model: Any
    state: TrainerState
    peak_memory: dict[str, float]


def train(
    spec: TrainingSpec,
    outputs: TrainingOutputs,
    identity: Identity,
    describe: Callable[[str, dict[str, Any]], None] | None = None,
) -> None:
    """Fine-tune a model and write its folder, the history of its training and its manifest.

    `describe` may add files to the model's folder: it gets the folder and the facts that the manifest will hold. On a
    CPU, with the same number of threads, a training that was killed and resumed ends with the same bytes as an
    undisturbed one.

    Raises Interrupted when training stopped and saved, before the end of its walltime or on a signal (see
    qa.jobs.interruption). Raises InputError for a model that cannot be loaded, a precision or number of GPUs that this
    machine lacks, a loss or weights that are not finite, a full disk, or while another job is at work on the same
    training.
    """
    inputs = fingerprint_inputs(spec, identity.code)
    memory = TrainingMemory(outputs.checkpoints, digest_of_json(inputs)[:16])
    keep_checkpoints = spec.options.keep_after_success
    requests = Requests()
    with signals_handled(requests.note):
        if memory.take_result(outputs.results):
            memory.keep_result(outputs.results, checkpoints=keep_checkpoints)
            return
        attempt = Attempt(spec, memory, memory.begin(), requests)
        try:
            trained = _with_chosen_epoch(_trained(attempt), attempt)
        except Interrupted:  # CheckpointCallback has noted it
            raise
        except Exception:
            memory.note(memory.attempts()[-1]["step"], "failed")
            raise
    memory.note(trained.state.global_step, "completed")
    _write_history(outputs.history, trained.state.log_history)
    save_model(trained.model, spec.inputs.model, outputs.model)
    facts: dict[str, Any] = {
        **asdict(identity),
        **{key: inputs[key] for key in ("seed", "settings", "inputs", "versions")},
        "gpus": spec.options.processes,
        "started": memory.attempts()[0]["started"],
        "training_windows": _training_windows(spec),
        **trained.peak_memory,
    }
    if describe:
        describe(outputs.model, facts)
    write_json(outputs.manifest, _manifest(facts, trained.state, memory))
    log.info(f"trained in {memory.summary()}")
    memory.keep_result(outputs.results, checkpoints=keep_checkpoints)


def fingerprint_inputs(spec: TrainingSpec, code: str) -> dict[str, Any]:
    """All that determines a training's result: a checkpoint is resumed only where all of it is the same."""
    present = {name: paths for name, paths in asdict(spec.inputs).items() if paths}
    return {
        "settings": spec.settings.params(),
        "seed": spec.seed,
        "inputs": manifest.input_hashes(present),
        "code": code,
        "versions": manifest.versions(["peft"] if spec.settings.lora_rank else []),
        "processes": spec.options.processes,
    }


def _training_windows(spec: TrainingSpec) -> int:
    """How many windows an epoch has."""
    folders, questions = spec.inputs.windows, spec.settings.questions
    if questions is None:
        return sum(len(arrow_table(folder)) for folder in folders)
    return len(windows_of_drawn(folders, questions, spec.seed))


def _manifest(facts: dict[str, Any], state: TrainerState, memory: TrainingMemory) -> dict[str, Any]:
    """The facts, and what the machine, the last step and the attempts add to them."""
    rates = [row["samples_per_second"] for row in state.log_history if "samples_per_second" in row]
    return {
        **manifest.code_state(),
        **facts,
        "machine": manifest.machine(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": state.global_step,
        "samples_per_second": statistics.median(rates) if rates else None,  # over all attempts
        "attempts": memory.attempts(),
        "attempts_seconds": round(seconds_of(memory.attempts())),
    }


def _trained(attempt: Attempt) -> Trained:
    """The training after its last step, which an earlier attempt, this process or several processes have taken.

    The last checkpoint has the model that several processes trained, and with LoRA the plain model.
    """
    if finished := _finished(attempt.resume, attempt):
        return finished
    if attempt.spec.options.processes == 1:
        trainer = fit(attempt)
        peak_memory = manifest.peak_memory()
        if not attempt.spec.settings.lora_rank:
            return Trained(trainer.model, trainer.state, peak_memory)
    else:
        peak_memory = distributed.launch(attempt)
    finished = _finished(attempt.memory.newest_whole(), attempt)
    if finished is None:
        raise RuntimeError(f"{attempt.memory.checkpoints}: training succeeded, but the last checkpoint is missing")
    return replace(finished, peak_memory=peak_memory)


def _finished(checkpoint: Path | None, attempt: Attempt) -> Trained | None:
    """The training, if the checkpoint was saved after its last step. Resumed there, the Trainer would take one more."""
    patience = attempt.spec.settings.early_stopping
    if checkpoint is None:
        return None
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    ended = patience is not None and epochs_module().is_over(state.log_history, patience)
    if state.global_step < state.max_steps and not ended:
        return None
    log.info(f"all {state.global_step:,} steps are done; taking the model of the last checkpoint")
    return Trained(load_model(checkpoint), state, manifest.peak_memory())


def _with_chosen_epoch(trained: Trained, attempt: Attempt) -> Trained:
    """The training, with the model of its best epoch if `keep_epoch` says so."""
    if attempt.spec.settings.keep_epoch == "last":
        return trained
    state, checkpoints = trained.state, attempt.memory.checkpoints
    step = epochs_module().best_step(state.log_history)
    log.info(f"the best epoch on held-out questions ended at step {step:,} of {state.global_step:,}; it is kept")
    best = checkpoints / f"best-{step}"
    if fault := checksums.fault_of(best) if best.exists() else "it is missing":
        raise InputError(f"{best}: {fault}; to train anew: rm -r {checkpoints} and run again")
    return replace(trained, model=load_model(best))


def _write_history(path: str | Path, history: list[dict[str, Any]]) -> None:
    """Write the Trainer's log as training.csv: a row for each logged step and each validation."""
    rows = (
        {ours: row[theirs] for theirs, ours in CSV_COLUMNS.items() if theirs in row}
        for row in history
        if "loss" in row or "eval_loss" in row
    )
    write_csv(path, CSV_COLUMNS.values(), rows)
