"""What defines a training: its inputs, settings and seed, the options that change no result, and where outputs go."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from qa.jobs.interruption import Requests
from qa.training.checkpoints import TrainingMemory


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """Paths of what a training reads. A list is empty where the training has no use for it.

    The loss on `validation` is measured after each epoch, and so are EM and F1 on the held-out questions.
    """

    model: str  # folder of the pretrained model
    windows: list[str]  # folders to train on, a split each
    targets: list[str]  # files with a teacher's soft targets, one for each folder of `windows`
    validation: list[str]  # folders of windows
    held_out_windows: list[str]  # folders
    held_out_records: list[str]  # files with the questions of `held_out_windows`, one for each folder

    @classmethod
    def of(cls, files: Mapping[str, Any]) -> "TrainingInputs":
        """The inputs of the rule `train` by their names: `model` is one path, the others are lists.

        Raises TypeError for an unknown name.
        """
        lists = {name: [str(path) for path in paths] for name, paths in files.items() if name != "model"}
        unused = {field.name: [] for field in fields(cls)}
        return cls(**{**unused, **lists, "model": str(files["model"])})


@dataclass(frozen=True)
class Distillation:
    """How a student learns from its teacher's soft targets."""

    weight: float  # share of the loss, 0 to 1; the labels have the rest
    temperature: float  # divides the student's logits


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings that determine a result. The reference of the configuration explains each of them."""

    max_steps: int | None  # optimizer steps; None: `epochs` decide
    batch_size: int  # windows of an optimizer step
    accumulation_steps: int  # forward passes that share an optimizer step
    learning_rate: float
    schedule: str
    warmup: float  # steps, or a share of them below 1
    weight_decay: float
    max_gradient_norm: float  # 0: no limit
    attention_dropout: float | None  # None: the model's own
    keep_epoch: str  # last or best
    precision: str
    padding: str
    overrides: dict[str, Any]  # values of the model's configuration
    epochs: float | None = None  # with `max_steps`: without effect, and left out
    max_length: int | None = None  # tokens; only with padding: max_length
    deterministic: bool = False
    early_stopping: int | None = None  # epochs
    f1_by: list[str] | None = None  # only with keep_epoch: best; of each of `held_out_records`; None: words
    questions: int | None = None  # to train on; None: all
    lora_rank: int | None = None  # None: all weights are trained
    lora_alpha: float | None = None  # only with `lora_rank`
    distillation: Distillation | None = None  # only with a teacher

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "TrainingSettings":
        """The settings in a rule's params, or in what `params` gave. Raises TypeError for unknown or missing keys."""
        distillation = params.get("distillation")
        return cls(**{**params, "distillation": Distillation(**distillation) if distillation else None})

    def params(self) -> dict[str, Any]:
        """The settings as the rule's params have them: optional ones only where they are set."""
        optional = {field.name: field.default for field in fields(self) if field.default is not MISSING}
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in optional or value != optional[name]}


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """The options that change no result: checkpoints, logging, processes, memory and compilation."""

    every_steps: int  # optimizer steps between two checkpoints
    keep: int  # checkpoints that stay while training goes on
    keep_after_success: bool
    log_every_steps: int
    report_to: list[str]  # tensorboard, wandb
    threads: int  # CPU threads of a node
    gpus: int  # processes of a node
    nodes: int
    compile: str  # none, kernels or graphs
    gradient_checkpointing: bool  # compute activations again in the backward pass
    walltime_minutes: float | None  # as the job asked for; None: without a limit

    @property
    def processes(self) -> int:
        """Processes of the training, over all nodes."""
        return self.gpus * self.nodes


@dataclass(frozen=True)
class TrainingSpec:
    """A training without its outputs."""

    inputs: TrainingInputs
    settings: TrainingSettings
    seed: int
    options: RuntimeOptions

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "TrainingSpec":
        """The spec that `dataclasses.asdict` turned into JSON values."""
        settings = TrainingSettings.of(values["settings"])
        return cls(TrainingInputs(**values["inputs"]), settings, values["seed"], RuntimeOptions(**values["options"]))


@dataclass(frozen=True)
class TrainingOutputs:
    """Paths of what a training writes."""

    model: str  # folder
    history: str  # CSV, a row for each logged step and each validation
    manifest: str  # JSON: what made the model
    checkpoints: str  # folder of the training's memory, see `checkpoints`

    @property
    def results(self) -> dict[str, str]:
        """The finished training's paths, by the names under which its memory keeps them."""
        return {"model": self.model, "training.csv": self.history, "manifest.json": self.manifest}


@dataclass(frozen=True)
class Identity:
    """Whose training it is, for the manifest. Of these facts only `code` decides whether a checkpoint is resumed."""

    run: str
    variant: str
    code: str  # digest of the code behind the stage
    run_settings: dict[str, Any]  # all settings of the run


@dataclass(frozen=True)
class Attempt:
    """One attempt at a training, in this process or in one of several."""

    spec: TrainingSpec
    memory: TrainingMemory
    resume: Path | None  # checkpoint to go on from; None: the start
    requests: Requests  # signals that ask for an end
