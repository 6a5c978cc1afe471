"""What a report is about: the files that the workflow has made for a configuration, read when asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa.common.files import read_json
from qa.config import lineage, settings

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path("results")


@dataclass(frozen=True)
class Model:
    """A fine-tuned (or published) model: a run and its variant, such as `seed-1`."""

    run: str
    variant: str

    @property
    def folder(self) -> Path:
        """Where its model, history and manifest are."""
        return FOLDER / self.run / self.variant

    @property
    def name(self) -> str:
        """For people: run and variant."""
        return f"{self.run} / {self.variant}"


@dataclass(frozen=True)
class Answers:
    """The answers of one run and variant to one `dataset/split`, by one decoding."""

    run: str
    variant: str
    split: str
    decoding: str

    @property
    def folder(self) -> Path:
        """Where answers.json, null_scores.json, nbest.parquet, metrics.json and so on are."""
        return FOLDER / self.run / self.variant / self.split / self.decoding

    @property
    def name(self) -> str:
        """For people, within a split: run, variant and decoding."""
        return f"{self.run} / {self.variant} / {self.decoding}"

    def metrics(self) -> dict[str, Any]:
        """The scores in percent, with their intervals."""
        return read_json(self.folder / "metrics.json")

    def null_scores(self) -> dict[str, float]:
        """Null score of each question: the logit of silence over that of the best answer."""
        return read_json(self.folder / "null_scores.json")

    def texts(self) -> dict[str, str]:
        """The answer to each question, "" where it is silent."""
        return read_json(self.folder / "answers.json")

    def slices(self) -> "pd.DataFrame":
        """Scores of kinds of questions."""
        return _table(self.folder / "slices.csv")

    def risk_coverage(self) -> "pd.DataFrame":
        """The risk-coverage curves."""
        return _table(self.folder / "risk_coverage.csv")


@dataclass(frozen=True)
class Results:
    """The results of a resolved configuration, in the working directory."""

    config: dict[str, Any]

    @cached_property
    def answers(self) -> list[Answers]:
        """All sets of answers, in the configuration's order."""
        return [Answers(*asked) for asked in settings.scored(self.config)]

    @cached_property
    def splits(self) -> list[str]:
        """Each `dataset/split` that is evaluated."""
        return list(dict.fromkeys(answers.split for answers in self.answers))

    @cached_property
    def models(self) -> list[Model]:
        """All models that were trained here."""
        return [Model(*training) for training in settings.trainings(self.config)]

    def of_split(self, split: str) -> list[Answers]:
        """The answers to one split."""
        return [answers for answers in self.answers if answers.split == split]

    def one_of_each(self, split: str) -> list[Answers]:
        """The first variant of each run and decoding: where one figure a run is enough."""
        return list({(a.run, a.decoding): a for a in reversed(self.of_split(split))}.values())[::-1]

    def calibration(self, answers: Answers) -> dict[str, Any] | None:
        """Null threshold and temperature as calibrated; None where the decoding has a threshold of its own.

        The configuration decides, not the file, which may be there from before.
        """
        if not lineage.is_calibrated(self.config["decodings"][answers.decoding]):
            return None
        return read_json(FOLDER / answers.run / answers.variant / "calibration" / f"{answers.decoding}.json")

    def threshold(self, answers: Answers) -> float | None:
        """The null score above which there is no answer, in logits; None where the decoding has no such rule."""
        return (self.calibration(answers) or self.config["decodings"][answers.decoding]).get("null_threshold")

    def summary(self) -> "pd.DataFrame":
        """Means and deviations over seeds, a row a run, split and decoding."""
        return _table(FOLDER / "summary.csv")

    def comparison(self) -> "pd.DataFrame":
        """Paired differences."""
        return _table(FOLDER / "comparison.csv")

    def resources(self) -> "pd.DataFrame":
        """A row an attempt at a job."""
        return _table(FOLDER / "resource_usage.csv")

    def history(self, model: Model) -> "pd.DataFrame":
        """The steps of a training."""
        return _table(model.folder / "training.csv")

    def manifest(self, model: Model) -> dict[str, Any]:
        """What made a model."""
        return read_json(model.folder / "manifest.json")

    def records(self, split: str) -> Path:
        """The file of a split's questions."""
        return FOLDER / "questions" / f"{split}.parquet"

    def windows(self, answers: Answers) -> Path:
        """The windows behind some answers (of an ensemble, the first model's)."""
        run, _ = lineage.parts(self.config, answers.run, answers.variant)[0]
        return Path(settings.windows_folder(self.config["runs"][run], answers.split))


def _table(file: Path) -> "pd.DataFrame":
    import pandas as pd

    # names are no missing values, whatever they are: a run may be called NA
    return pd.read_csv(file, keep_default_na=False, na_values=[""])
