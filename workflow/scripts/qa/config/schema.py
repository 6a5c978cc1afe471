"""The configuration as typed sections: each field with its type, limits, default, unit, meaning and first reader.

Error messages, the reference (docs/configuration.md) and the schema for editors (config/schema.json) come from here.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, PrivateAttr, Tag

from qa.config.fields import (
    GREATEST,
    Flag,
    Name,
    Number,
    OwnedName,
    Section,
    Some,
    Split,
    Splits,
    Text,
    Unique,
    Whole,
    listed,
    section,
    setting,
)
from qa.config.sections import (
    Checkpoints,
    Dataset,
    Decoding,
    Distillation,
    EarlierRun,
    NBest,
    Prediction,
    PretrainedModel,
    Training,
    Walkthrough,
    Windows,
)

AS_GIVEN = "as_given"  # the only decoding of answers from a file


def kind_of_run(value: Any) -> str:
    """The kind of run that a mapping describes: `(ensemble)`, `(external)` or `(run)`."""
    known = ("ensemble", "(ensemble)"), ("answers", "(external)")
    return next((kind for key, kind in known if isinstance(value, dict) and key in value), "(run)")


def _kind_of_decoding(value: Any) -> str | None:
    method = value.get("method") if isinstance(value, dict) else None
    return f"({method})" if method in ("n_best", "walkthrough") else None


class Settings(Section):
    """Settings of every run, unless the run sets its own."""

    hold_out: Number = setting(
        "hold_out_calibration",
        "Share of each training split, in whole articles, that is not trained on. It calibrates thresholds and "
        "probabilities. 0 holds nothing out.",
        0.05,
        ge=0,
        le=0.5,
    )
    distillation: Distillation = section(Distillation)
    windows: Windows = section(Windows)
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = setting(
        "train", "Arithmetic of training and prediction. Weights are stored as fp32.", "fp32"
    )
    padding: Literal["packed", "longest", "max_length"] = setting(
        "train",
        "`packed` puts the windows of a batch end to end in one row, without padding; no window sees another. Encoders "
        "that cannot do this, such as MobileBERT, use `longest`, and the log says so. DeBERTa v2 and v3 can on a CPU, "
        "and on a GPU with the package flashdeberta. `longest` pads rows to the longest row of their batch. Both give "
        "the same losses, up to rounding and dropout masks; padding is no part of the loss. `max_length` always pads "
        "to `windows.max_length`; padding is part of the loss, as in the walkthrough.",
        "packed",
    )
    deterministic: Flag = setting(
        "train",
        "Whether a GPU also gives the same bits every time, on machines with the same GPUs and versions. Training is "
        "then slower: it uses deterministic kernels only and does not compile (`training.compile`). A model that needs "
        "an operation without such a kernel is refused. On a CPU results have the same bits for the same number of "
        "threads.",
        False,
    )
    training: Training = section(Training)
    prediction: Prediction = section(Prediction)
    checkpoints: Checkpoints = section(Checkpoints)
    report_to: Annotated[list[Literal["tensorboard", "wandb"]], *Unique] = setting(
        "nothing",
        "Where else training reports its losses. `tensorboard` writes to `logs/tensorboard/{run}/{variant}`. `wandb` "
        "writes to `logs/wandb/{run}/{variant}` without the network, for `wandb sync`. Each needs its package.",
        [],
    )


class Publish(Section):
    """Where the target `publish` uploads a package of this run. Without that target nothing is uploaded."""

    repo: OwnedName | None = setting(
        "package", "Model repository on the Hub, `owner/name`. It is created if it does not exist.", None
    )
    private: Flag = setting(
        "nothing", "Whether only its owners see the repository. A public one is then refused.", True
    )
    seed: Whole | None = setting("nothing", "Seed of the model to publish. `null` is the first of `seeds`.", None)


EvaluateOn = Annotated[Splits, setting("predict", "Splits to answer and score.")]
Decodings = Annotated[list[Text], *Some, setting("postprocess", "Names of the decodings to answer with.")]
CalibrateOn = Annotated[
    Splits | None,
    setting(
        "train",
        "Splits whose questions calibrate thresholds and probabilities. `null` takes the questions held out of "
        "training. No split may also be in `evaluate_on`.",
    ),
]


class _Run(Section):
    model: Annotated[
        Annotated[Text, Tag("(name)")] | Annotated[EarlierRun, Tag("(earlier_run)")],
        Discriminator(lambda value: "(earlier_run)" if isinstance(value, dict | EarlierRun) else "(name)"),
    ] = setting(
        "tokenize_and_label",
        "Name of a model; or `{run: NAME}`, to fine-tune the trained model of another run further.",
    )
    train_on: Annotated[Splits, BeforeValidator(listed, json_schema_input_type=Split | list[Split])] | None = setting(
        "tokenize_and_label",
        "Split to fine-tune on, `dataset/split`, or a list of splits to train on together. `null` is for a `model` "
        "that is fine-tuned for question answering already: nothing is trained, and the only variant is `published`.",
    )
    validate_on: Split | None = setting(
        "train",
        "Split whose loss is computed after each epoch, for `training.csv`. `null` takes held-out questions, if any.",
        None,
    )
    evaluate_on: EvaluateOn
    decodings: Decodings
    seeds: Annotated[list[Annotated[Whole, Field(ge=0, le=GREATEST - 1)]], *Some] = setting(
        "train", "Random seeds. Each seed is a training of its own. Without `train_on` they are not used.", [42]
    )
    teacher: Text | None = setting(
        "soft_targets",
        "What the run also learns from: another run (all its seeds), `run/seed-1`, or an ensemble. Its answers to the "
        "training questions are soft targets (`distillation`).",
        None,
    )
    publish: Publish = section(Publish)
    calibrate_on: CalibrateOn = None
    # No result depends on these: the values that they draw are the settings of the runs that are drawn.
    draws: Whole | None = setting(
        "train",
        "How many points to draw from the settings with a distribution: `{uniform: [low, high]}`, `{log_uniform: [low, "
        "high]}` or `{choice: [a, b]}`. Each point is a run, `run.draw-1` and so on. More draws keep the first ones.",
        None,
        ge=1,
        exclude=True,
    )
    draw_seed: Whole = setting("train", "Random seed of `draws`. Another seed draws other values.", 0, exclude=True)


class Run(Settings, _Run):
    """A training for each seed, or a published model; its settings override those of `defaults`."""

    _pretrained: str = PrivateAttr("")  # as lineage finds it, where `model` is an earlier run

    @property
    def pretrained(self) -> str:
        """Name of the model that the first training started from: this run's, or that of its earliest run."""
        return self.model if isinstance(self.model, str) else self._pretrained

    @property
    def is_trained(self) -> bool:
        """Whether the run fine-tunes its model."""
        return self.train_on is not None


class Ensemble(Section):
    """A run that averages the span probabilities of other runs."""

    ensemble: Annotated[list[Text], *Some] = setting(
        "postprocess",
        "Runs (all their seeds), sweeps (all their runs) and `run/seed-1`s whose span probabilities are averaged. They "
        "may have different tokenizers.",
    )
    evaluate_on: EvaluateOn
    decodings: Decodings
    calibrate_on: CalibrateOn = None


class External(Section):
    """A run whose answers come from files: those of another system."""

    answers: dict[Split, Text] = setting(
        "postprocess",
        "The file with the answers to each split, `dataset/split: file`: JSON `{id: text}`, or a list or JSON lines of "
        "`{id, answer}`, such as `qa ask --json` prints. Nothing is trained or predicted.",
        min_length=1,
    )
    decodings: ClassVar[list[str]] = [AS_GIVEN]
    calibrate_on: ClassVar[None] = None  # there is no threshold

    @property
    def evaluate_on(self) -> list[str]:
        """The splits that have answers."""
        return list(self.answers)


AnyRun = Run | Ensemble | External


class ConfigurationFile(Section):
    """A configuration as it is written: named parts, and runs over them."""

    models: dict[Name, PretrainedModel] = Field({}, description="Pretrained encoders by name.")
    datasets: dict[Name, Dataset] = Field(description="Sets of questions by name.", min_length=1)
    decodings: dict[
        Name,
        Annotated[
            Annotated[NBest, Tag("(n_best)")] | Annotated[Walkthrough, Tag("(walkthrough)")],
            Discriminator(
                _kind_of_decoding,
                custom_error_type="method",
                custom_error_message="needs `method: n_best` or `method: walkthrough`",
            ),
        ],
    ] = Field({}, description="Ways to turn logits into answers, by name.")
    defaults: Settings = section(Settings)
    runs: dict[
        Name,
        Annotated[
            Annotated[Run, Tag("(run)")]
            | Annotated[Ensemble, Tag("(ensemble)")]
            | Annotated[External, Tag("(external)")],
            Discriminator(kind_of_run),
        ],
    ] = Field(
        description="Trainings by name. Settings and `model` may list values, or have distributions for `draws`: the "
        "run then stands for one run for each combination (a sweep).",
        min_length=1,
    )
    compare_to: str | None = setting(
        "compare",
        "`run/decoding` that other runs, each with its first decoding, and the other decodings of the same run are "
        "compared with, question by question, in `results/comparison.csv`. `null` is `baseline/walkthrough`, or the "
        "first run with its first decoding if there is none. With pairs in `compare`, `null` compares only these.",
        None,
    )
    compare: Annotated[list[Annotated[list[str], Field(min_length=2, max_length=2)]], *Unique] = setting(
        "compare", "Pairs of `run/decoding` for `results/comparison.csv`, the first against the second.", []
    )


Side = tuple[str, str]  # run, decoding


class Configuration(BaseModel):
    """A checked configuration: sweeps expanded, runs merged with `defaults`, ensembles and `external` apart from them.

    `compare_to` and `compare` name sides, `run/decoding`; `compare_to` is None if only `compare` is given. `sweeps` has
    for each swept run the names that it expands to, with the values of each, as text by label.
    """

    models: dict[str, PretrainedModel]
    datasets: dict[str, Dataset]
    decodings: dict[str, Decoding]
    runs: dict[str, Run]
    ensembles: dict[str, Ensemble]
    external: dict[str, External] = {}
    compare_to: str | None
    compare: list[list[str]]
    sweeps: dict[str, dict[str, dict[str, str]]]

    @property
    def all_runs(self) -> dict[str, AnyRun]:
        """Runs by name, those with a model first, then ensembles, then those with answers from files."""
        return {**self.runs, **self.ensembles, **self.external}
