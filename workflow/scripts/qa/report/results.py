"""The results that a report shows: files that the workflow has written for a configuration, read on demand."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from qa.common.files import read_json
from qa.config import lineage, stages
from qa.config.schema import Configuration

FOLDER = Path("results")
NAMES = ("dataset", "split", "run", "decoding", "reference_run", "reference_decoding", "rule", "variant", "slice")


@dataclass(frozen=True)
class Model:
    """A fine-tuned (or published) model: a run and its variant, such as `seed-1`."""

    run: str
    variant: str

    @property
    def folder(self) -> Path:
        """The folder of the model, its history and its manifest."""
        return FOLDER / self.run / self.variant

    @property
    def name(self) -> str:
        """Run and variant, as the page shows them."""
        return f"{self.run} / {self.variant}"


@dataclass(frozen=True)
class Answers:
    """The answers of one run and variant on one `dataset/split`, with one decoding."""

    run: str
    variant: str
    split: str
    decoding: str

    @property
    def folder(self) -> Path:
        """The folder of answers.json, null_scores.json, nbest.parquet, metrics.json and so on."""
        return FOLDER / self.run / self.variant / self.split / self.decoding

    @property
    def name(self) -> str:
        """Run, variant and decoding, as the page shows them. It is unique within a split."""
        return f"{self.run} / {self.variant} / {self.decoding}"

    def metrics(self) -> dict[str, Any]:
        """The scores in percent, with their intervals."""
        return read_json(self.folder / "metrics.json")

    @property
    def has_probabilities(self) -> bool:
        """Whether the answers have probabilities, as all but some of other systems have."""
        return "ece" in self.metrics()

    def null_scores(self) -> dict[str, float]:
        """Null score of each question: the score of no answer minus the score of the best span, in logits."""
        return read_json(self.folder / "null_scores.json")

    def texts(self) -> dict[str, str]:
        """The answer to each question by id; "" is no answer."""
        return read_json(self.folder / "answers.json")


@dataclass(frozen=True)
class Results:
    """The results of a configuration, in the working directory."""

    config: Configuration

    @cached_property
    def answers(self) -> list[Answers]:
        """All sets of answers in the order of the configuration, but an ensemble after the last run in it.

        Those of other systems come last.
        """
        place = {run: number for number, run in enumerate(self.config.runs)}
        for name in self.config.ensembles:
            place[name] = max(place[run] for run, _ in lineage.parts(self.config, name, lineage.ENSEMBLE))
        place |= dict.fromkeys(self.config.external, len(place))
        return sorted(
            (Answers(*asked) for asked in lineage.scored(self.config)), key=lambda answers: place[answers.run]
        )

    @cached_property
    def splits(self) -> list[str]:
        """Every `dataset/split` that is evaluated."""
        return list(dict.fromkeys(answers.split for answers in self.answers))

    @cached_property
    def models(self) -> list[Model]:
        """All models that this workflow has trained."""
        return [Model(*training) for training in lineage.trainings(self.config)]

    def of_split(self, split: str) -> list[Answers]:
        """The sets of answers on one split."""
        return [answers for answers in self.answers if answers.split == split]

    def one_of_each(self, split: str) -> list[Answers]:
        """The answers of the first variant of each run and decoding, for figures that show one variant of a run."""
        return list({(a.run, a.decoding): a for a in reversed(self.of_split(split))}.values())[::-1]

    def calibration(self, answers: Answers) -> dict[str, Any] | None:
        """The calibrated null threshold and temperature; None for a decoding that is not calibrated.

        The configuration decides that, since a file of an earlier configuration may still exist.
        """
        if not self.config.decodings[answers.decoding].is_calibrated:
            return None
        return read_json(FOLDER / answers.run / answers.variant / "calibration" / f"{answers.decoding}.json")

    def calibration_scores(self, run: str, variant: str, decoding: str) -> pd.DataFrame:
        """The scores of the questions that a calibrated decoding was calibrated on."""
        return pd.read_parquet(FOLDER / run / variant / "calibration" / f"{decoding}.parquet")

    def threshold(self, answers: Answers) -> float | None:
        """The null threshold in logits: above it, there is no answer. None for a decoding without a threshold."""
        calibration = self.calibration(answers)
        if calibration is not None:
            return calibration["null_threshold"]
        return getattr(self.config.decodings[answers.decoding], "null_threshold", None)

    def comparison(self) -> pd.DataFrame:
        """The paired differences."""
        return read_table(FOLDER / "comparison.csv")

    def history(self, model: Model) -> pd.DataFrame:
        """The logged steps of a training."""
        return read_table(model.folder / "training.csv")

    def manifest(self, model: Model) -> dict[str, Any]:
        """The manifest of a model: inputs, settings, software and machine."""
        return read_json(model.folder / "manifest.json")

    def records(self, split: str) -> Path:
        """The file of a split's questions."""
        return FOLDER / "questions" / f"{split}.parquet"

    def windows_id(self, answers: Answers) -> str:
        """The id of the windows behind a set of answers, for an ensemble that of its first model; "" without any."""
        models = lineage.parts(self.config, answers.run, answers.variant)
        return stages.windows_id(self.config.runs[models[0][0]]) if models else ""


def read_table(file: Path) -> pd.DataFrame:
    """A CSV file of the results."""
    # a run may be called NA, so only empty cells are missing values; a run or split may be called 2024
    return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str))
