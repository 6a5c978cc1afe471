"""The parts of a configuration that runs combine: models, datasets, decodings, and the groups of a run's settings."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError

from qa.config.fields import (
    Commit,
    Files,
    Flag,
    HubName,
    License,
    Name,
    Number,
    Section,
    Single,
    Text,
    Threshold,
    Whole,
    setting,
)

# Snakemake compares params as text: in another order they would rerun all that follows.
IN_ONE_ORDER = AfterValidator(lambda values: dict(sorted(values.items())))


class PretrainedModel(Section):
    """A pretrained encoder."""

    repo: HubName | None = setting(
        "download", "Repository on the Hugging Face Hub, `owner/name`. Needs `revision`.", None
    )
    revision: Commit | None = setting("download", "Commit of the repository, 40 hexadecimal digits.", None)
    path: Text | None = setting("download", "Folder with a model on this machine, instead of `repo`.", None)
    package: Text | None = setting(
        "download", "Python package with the model, instead of `repo`. Needs `directory`.", None
    )
    directory: Text | None = setting("download", "Folder of the model within the installed `package`.", None)
    overrides: Annotated[dict[str, Single], IN_ONE_ORDER] = setting(
        "train", "New values for keys of the model's own configuration, such as `num_hidden_layers`.", {}
    )
    license: License | None = setting(
        "package",
        "Licence for the model cards of fine-tuned models, as the Hub writes it (`apache-2.0`). `null` takes the "
        "licence that the card of this model names, if any.",
        None,
    )

    @model_validator(mode="after")
    def _one_source(self) -> "PretrainedModel":
        sources = ({"repo", "revision"}, {"path"}, {"package", "directory"})
        if {key for source in sources for key in source if getattr(self, key) is not None} not in sources:
            raise PydanticCustomError(
                "source", "needs one source: `repo` with `revision`, or `path`, or `package` with `directory`"
            )
        return self


class EarlierRun(Section):
    """A run whose trained model is fine-tuned on."""

    run: Text = setting("train", "Name of the run. Each seed goes on from the same seed of that run.")
    seed: Whole | None = setting("train", "Every seed goes on from this seed of that run instead.", None)


class Dataset(Section):
    """A set of questions."""

    repo: HubName | None = setting(
        "download", "Dataset repository on the Hub. Without it `splits` are local files.", None
    )
    revision: Commit | None = setting("download", "Commit of the repository, 40 hexadecimal digits.", None)
    splits: Annotated[dict[Name, Files], IN_ONE_ORDER] = setting(
        "download",
        "Files of each split, one or a list. In a repository they may be patterns (`data/train-*.parquet`). SQuAD "
        "JSON, JSON lines, CSV or Parquet, each also `.gz`.",
        min_length=1,
    )
    misaligned: Literal["error", "realign", "drop"] = setting(
        "prepare_questions",
        "What happens to an answer whose text is not at its `answer_start`, or that has none. `error` stops. `realign` "
        "moves it to its place in UTF-16 units or bytes, else to the nearest place with its text, and removes it if "
        "there is none. `drop` removes it. A question goes with its last answer.",
        "error",
    )
    f1_by: Literal["words", "characters"] = setting(
        "calibrate",
        "What F1 counts. `words` is official. `characters` (without white space) is for languages that write no spaces "
        "between words, such as Chinese, Japanese and Thai; EM and F1 then ignore punctuation of all scripts.",
        "words",
    )
    limit: Whole | None = setting(
        "prepare_questions",
        "For a quick try: at most so many questions of each split, drawn by a digest of their ids. `metrics.json`, "
        "`summary.csv`, the report, the model card and `qa table` say so. `null` takes all.",
        None,
        unit="questions",
        ge=1,
    )

    @model_validator(mode="after")
    def _pinned(self) -> "Dataset":
        if (self.repo is None) != (self.revision is None):
            raise PydanticCustomError("source", "`repo` and `revision` go together")
        return self


class NBest(Section):
    """The decoding `n_best`: the best pair of start and end over all windows of a question."""

    method: Literal["n_best"] = setting(
        "postprocess",
        "`n_best` takes the best pair of start and end over all windows, and a threshold on the null score. "
        "`walkthrough` takes the best start and the best end of the whole row, and answers if end > start.",
    )
    n_best_size: Whole = setting("postprocess", "Candidates kept for each question (`n_best` only).", 20, ge=1, le=1000)
    max_answer_length: Whole = setting("postprocess", "Longest answer (`n_best` only).", 30, unit="tokens", ge=1)
    null_threshold: Threshold = setting(
        "postprocess",
        'The answer is "no answer" if the null score minus the best span score is above this number (`n_best` only). '
        "`calibrated` takes the threshold, and a temperature, that are best on questions held out of training "
        "(`hold_out`, `calibrate_on`).",
        "calibrated",
        unit="logits",
    )
    calibrate_for: Literal["f1", "exact"] = setting(
        "calibrate", "Metric that the calibrated threshold maximizes (`n_best` only).", "f1"
    )
    unanswerable_prior: Number | None = setting(
        "calibrate",
        "Share of unanswerable questions expected where the model will be used (`n_best` only). The held-out questions "
        "are weighted to this share. `null` leaves them as they are.",
        None,
        gt=0,
        lt=1,
    )

    @property
    def is_calibrated(self) -> bool:
        """Whether the threshold comes from held-out questions."""
        return self.null_threshold == "calibrated"

    @model_validator(mode="after")
    def _calibration_is_used(self) -> "NBest":
        idle = [key for key in ("calibrate_for", "unanswerable_prior") if key in self.model_fields_set]
        if not self.is_calibrated and (idle := [key for key in idle if getattr(self, key) is not None]):
            raise PydanticCustomError(
                "idle",
                "`{key}` needs null_threshold: calibrated, not {threshold}",
                {"key": idle[0], "threshold": self.null_threshold},
            )
        return self


class Walkthrough(Section):
    """The decoding `walkthrough`: the best start and the best end of the whole row, chosen apart."""

    method: Literal["walkthrough"] = setting("postprocess", "See `n_best`.")
    is_calibrated: ClassVar[bool] = False  # there is no threshold


class Distillation(Section):
    """How a run with a `teacher` learns from it."""

    weight: Number = setting("train", "Share of the soft targets in the loss; labels have the rest.", 0.5, gt=0, le=1)
    temperature: Number = setting("soft_targets", "Divisor of the logits of teacher and student.", 2.0, gt=0)


class Windows(Section):
    """How questions and contexts become rows of tokens."""

    max_length: Whole = setting(
        "tokenize_and_label", "Longest row: question, context and special tokens.", 384, unit="tokens", ge=16
    )
    overlap: Whole = setting(
        "tokenize_and_label", "Shared part of neighbouring windows (a tokenizer's `stride`).", 128, unit="tokens", ge=0
    )
    max_question_length: Whole | None = setting(
        "tokenize_and_label",
        "Longer questions are cut to this. `null` never cuts, and a question that leaves no room is an error.",
        64,
        unit="tokens",
        ge=1,
    )
    long_contexts: Literal["windows", "truncate"] = setting(
        "tokenize_and_label", "A long context takes several rows, or only the first one (`truncate`).", "windows"
    )
    labels: Literal["exact", "walkthrough"] = setting(
        "tokenize_and_label",
        "`exact` is the smallest token span that contains the first gold answer that the window wholly contains, or no "
        "answer without one. `walkthrough` is the rule of the published walkthrough, with its flaws.",
        "exact",
    )
    answers: Literal["first", "all"] = setting(
        "tokenize_and_label",
        "Which gold answer labels a window that holds several. `first` is always the first one. With `all` they take "
        "turns, another one each epoch (only with `labels: exact`).",
        "first",
    )

    @model_validator(mode="after")
    def _answers_are_used(self) -> "Windows":
        if self.answers == "all" and self.labels != "exact":
            raise PydanticCustomError(
                "idle", "`answers: all` needs labels: exact, not {labels}", {"labels": self.labels}
            )
        return self


class Training(Section):
    """Fine-tuning."""

    epochs: Number = setting(
        "train", "Passes over the training windows. Ignored if `max_steps` is set.", 3, unit="epochs", gt=0
    )
    questions: Whole | None = setting(
        "train",
        "Train on so many questions only. Each seed draws its own ones, and more questions are always the fewer ones "
        "and others. A list of numbers makes a learning curve in the report. `null` takes all.",
        None,
        unit="questions",
        ge=1,
    )
    max_steps: Whole | None = setting(
        "train", "Optimizer steps, instead of epochs. `null` trains `epochs`.", None, unit="steps", ge=1
    )
    batch_size: Whole = setting(
        "train", "Windows of one optimizer step, over all accumulated parts and GPUs.", 16, unit="windows", ge=1
    )
    accumulation_steps: Whole = setting(
        "train", "Parts that a batch is computed in if it does not fit the memory. Must divide `batch_size`.", 1, ge=1
    )
    attention_dropout: Number | None = setting(
        "train",
        "Share of attention weights dropped in training. `null` keeps the model's own, usually 0.1. The fastest "
        "attention kernel has no dropout, so a value above 0 makes training on a GPU slower.",
        0.0,
        ge=0,
        lt=1,
    )
    compile: Literal["none", "kernels", "graphs"] = setting(
        "nothing",
        "How a GPU trains. With `graphs`, encoders like BERT and RoBERTa train by hand-written kernels, in one CUDA "
        "graph. This needs `precision: bf16`, `padding: packed`, `attention_dropout: 0`, one GPU, and no "
        "accumulation, `deterministic`, `gradient_checkpointing` or `lora_rank`. All else is compiled by "
        "torch.compile, in CUDA graphs where that is possible. `kernels` is torch.compile without graphs, and `none` "
        "is neither. Compiling takes up to a few minutes. Results differ by rounding and dropout masks only, so a "
        "change reruns nothing. Padded rows are compiled for DeBERTa only, in six widths at most. Packed rows of "
        "DeBERTa are not compiled.",
        "graphs",
    )
    gradient_checkpointing: Flag = setting(
        "nothing",
        "Whether layers compute their activations again in the backward pass instead of keeping them: for large models "
        "on small slices of GPUs. Training needs less memory and more time. Losses are the same within rounding, so a "
        "change reruns nothing. With `compile: graphs`, `kernels` are compiled.",
        False,
    )
    keep_epoch: Literal["last", "best"] = setting(
        "train",
        "Keep the model after the `last` epoch, or after the epoch with the `best` F1 on held-out questions "
        "(`hold_out`, `calibrate_on`).",
        "last",
    )
    early_stopping: Whole | None = setting(
        "train",
        "Training ends after so many epochs in a row without a better F1 on held-out questions. Needs `keep_epoch: "
        "best`. The learning rate still falls as planned for all `epochs`. `null` trains them all.",
        None,
        unit="epochs",
        ge=1,
    )
    lora_rank: Whole | None = setting(
        "train",
        "LoRA: each linear layer of the encoder gets a trainable adapter of this rank, and the encoder's own weights "
        "stay as they are. The head is trained whole. Adapters are merged into the saved model. Needs the package peft "
        "and a higher `learning_rate`. `null` trains all weights.",
        None,
        ge=1,
    )
    lora_alpha: Number = setting(
        "train", "The output of an adapter is multiplied by `lora_alpha` / `lora_rank`. Ignored without it.", 32, gt=0
    )
    gpus: Whole = setting(
        "nothing",
        "GPUs of one node that share each batch (processes, if there is no GPU). Results differ by rounding only, so a "
        "change reruns nothing. Must divide `batch_size` / `accumulation_steps`.",
        1,
        ge=1,
    )
    nodes: Whole = setting("nothing", "Nodes of a SLURM cluster, with `gpus` each.", 1, ge=1)
    learning_rate: Number = setting("train", "Highest learning rate.", 2.0e-5, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = setting(
        "train", "Course of the learning rate after warm-up.", "linear"
    )
    warmup: Number = setting(
        "train", "Steps in which the rate rises from 0. Below 1: share of all steps.", 0, unit="steps or share", ge=0
    )
    weight_decay: Number = setting("train", "Weight decay of AdamW. Biases and norms have none.", 0.01, ge=0)
    max_gradient_norm: Number = setting("train", "Gradients are clipped to this norm. `0` never clips.", 1.0, ge=0)


class Prediction(Section):
    """Running the model over the evaluation windows."""

    batch_size: Whole = setting("predict", "Windows computed at once.", 64, unit="windows", ge=1)
    candidates: Whole = setting("predict", "Best starts and best ends kept for each window.", 20, ge=1, le=200)


class Checkpoints(Section):
    """Saved states of a training, to resume from. These settings change no result and rerun nothing."""

    every_steps: Whole = setting("nothing", "Optimizer steps between two checkpoints.", 500, unit="steps", ge=1)
    keep: Whole = setting("nothing", "Newest checkpoints kept while training runs.", 2, ge=1)
    keep_after_success: Flag = setting(
        "nothing", "Whether checkpoints stay after training. A forced rerun then resumes from the last one.", False
    )
    log_every_steps: Whole = setting(
        "nothing", "Optimizer steps between two rows of `training.csv`.", 50, unit="steps", ge=1
    )


class AsGiven(Section):
    """The decoding of answers from a file, which nothing decodes."""

    method: Literal["as_given"] = "as_given"
    is_calibrated: ClassVar[bool] = False  # there is no threshold


Decoding = NBest | Walkthrough | AsGiven
