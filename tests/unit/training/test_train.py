"""Training and prediction on a tiny model: resumed equals undisturbed, and padding changes nothing it should not."""

import csv
import json
import shutil

import datasets
import numpy as np
import pytest
import torch

import tiny
import trainings
from qa.common.errors import InputError
from qa.common.files import sha256_of_folder
from qa.data.prepare_questions import convert
from qa.model.collators import PaddingCollator
from qa.model.loading import load_model
from qa.model.predict import Place, best_spans, predict
from qa.model.spans import Spans
from qa.model.window_dataset import POSITIONS, TokenRows, WindowDataset
from qa.training import callbacks
from qa.training import train as training
from qa.training.checkpoints import COMPLETE, TrainingMemory, mark_complete
from qa.training.drawn_questions import windows_of_drawn
from qa.windows.read_windows import arrow_table
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

SETTINGS = tiny.TRAINING | {
    "max_steps": 7,
    "schedule": "linear",
    "warmup": 0.1,
    "weight_decay": 0.01,
}
OPTIONS = tiny.RUNTIME_OPTIONS | {"every_steps": 3, "keep": 2, "log_every_steps": 2, "threads": 2, "compile": "kernels"}
TEXTS = [p["context"] + p["qas"][0]["question"] for p in tiny.squad(30)["data"][0]["paragraphs"]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    tiny.save_model(folder / "model", TEXTS)
    convert([tiny.write_squad(folder / "q.json", questions=30)], folder / "r.parquet")
    tokenize(folder / "r.parquet", load_tokenizer(folder / "model"), tiny.WINDOWS, folder / "windows")
    windows = str(folder / "windows")
    return {"model": str(folder / "model"), "windows": [windows], "validation": [windows]}


class Killed(BaseException):
    """Stands for a job that is gone without a chance to clean up."""


def train(inputs, folder, killed_at=None, monkeypatch=None, settings=SETTINGS, code="abc", **options):
    outputs = {"model": "model", "history": "training.csv", "manifest": "manifest.json"}
    outputs["checkpoints"] = "checkpoints/r/seed-1"

    def run():
        trainings.train(inputs, folder, settings, {**OPTIONS, **options}, code, outputs)

    if killed_at is None:
        run()
        return folder

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == killed_at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SetEpochCallback, "on_step_end", on_step_end)
        with pytest.raises(Killed):
            run()
    return folder


def history(folder):
    with open(folder / "training.csv", newline="") as stream:
        return [
            {key: value for key, value in row.items() if key != "samples_per_second"} for row in csv.DictReader(stream)
        ]


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    return train(inputs, tmp_path_factory.mktemp("undisturbed"))


def test_a_killed_and_resumed_training_ends_with_the_same_bytes(inputs, undisturbed, tmp_path, monkeypatch):
    for step in (2, 4, 5, 7):
        train(inputs, tmp_path, killed_at=step, monkeypatch=monkeypatch)
        assert not (tmp_path / "model").exists() and not (tmp_path / "training.csv").exists()
    (noted,) = (tmp_path / "checkpoints").glob("r/seed-1/*/attempts.json")
    first, *others = json.loads(noted.read_text())
    noted.write_text(json.dumps([first | {"started": "2026-01-01T00:00:00+00:00"}, *others]))
    train(inputs, tmp_path)
    assert sha256_of_folder(tmp_path / "model") == sha256_of_folder(undisturbed / "model")
    assert history(tmp_path) == history(undisturbed)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [attempt["resumed_at_step"] for attempt in manifest["attempts"]] == [0, 0, 3, 3, 6]
    assert manifest["started"] == "2026-01-01T00:00:00+00:00"


def test_gold_answers_take_turns_and_a_resumed_training_takes_the_same_ones(inputs, tmp_path, monkeypatch):
    data = tiny.squad(12)
    for paragraph in data["data"][0]["paragraphs"]:
        context, answers = paragraph["context"], paragraph["qas"][0]["answers"]
        others = ["Ada Venn", "mill", "villages"][: 3 * bool(answers)]
        answers += [{"text": text, "answer_start": context.index(text)} for text in others]
    (tmp_path / "q.json").write_text(json.dumps(data))
    convert([tmp_path / "q.json"], tmp_path / "r.parquet")
    made, settings = {}, {**SETTINGS, "max_steps": None, "epochs": 3}
    for answers in ("first", "all"):
        chosen, folder = {**tiny.WINDOWS, "answers": answers}, tmp_path / answers
        tokenize(tmp_path / "r.parquet", load_tokenizer(inputs["model"]), chosen, folder / "windows")
        several = {"model": inputs["model"], "windows": [str(folder / "windows")]}
        made[answers] = sha256_of_folder(train(several, folder / "once", settings=settings) / "model")
    step = int(1.5 * steps_of_an_epoch(several))
    train(several, tmp_path / "often", killed_at=step, monkeypatch=monkeypatch, settings=settings)
    train(several, tmp_path / "often", settings=settings)
    assert sha256_of_folder(tmp_path / "often" / "model") == made["all"] != made["first"]

    seen = []
    for seed in (1, 1, 2):
        windows = WindowDataset(arrow_table(several["windows"][0]), list(POSITIONS), seed=seed)
        labels = [
            [*windows.rows(range(len(windows))).numbers.values()] for _ in (windows.set_epoch(e) for e in range(4))
        ]
        seen.append(np.array(labels).transpose(2, 0, 1).tolist())
    golds = arrow_table(several["windows"][0]).column("golds").to_pylist()
    for window, pairs in zip(seen[0], golds, strict=True):
        assert {*map(tuple, window)} == {*zip(pairs[::2], pairs[1::2], strict=True)}
    assert seen[0] == seen[1] != seen[2]


def steps_of_an_epoch(inputs):
    return -(-len(datasets.load_from_disk(inputs["windows"][0])) // SETTINGS["batch_size"])


@pytest.mark.parametrize("epochs", [2, 1.5])
def test_killed_around_the_ends_of_epochs_and_of_training_ends_with_the_same_bytes(
    epochs, inputs, tmp_path, monkeypatch
):
    steps, settings = steps_of_an_epoch(inputs), {**SETTINGS, "max_steps": None, "epochs": epochs}
    settings["schedule"] = "constant"  # a step too many shows in the weights
    once, often = tmp_path / "once", tmp_path / "often"
    train(inputs, once, settings=settings, every_steps=steps)
    last = json.loads((once / "manifest.json").read_text())["steps"]
    for step in (steps, steps + 1, last):
        train(inputs, often, killed_at=step, monkeypatch=monkeypatch, settings=settings, every_steps=steps)
    with monkeypatch.context() as patch:  # all steps done, the final files not yet written
        patch.setattr(training, "_write_history", lambda *arguments: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(inputs, often, settings=settings, every_steps=steps)
    train(inputs, often, settings=settings, every_steps=steps)
    manifest = json.loads((often / "manifest.json").read_text())
    assert manifest["steps"] == last and manifest["attempts"][-1]["resumed_at_step"] == last
    assert {attempt["resumed_at_step"] for attempt in manifest["attempts"]} == {0, steps, last}
    assert sha256_of_folder(often / "model") == sha256_of_folder(once / "model")
    assert history(often) == history(once)
    assert [int(row["step"]) for row in history(often) if row["validation_loss"]] == [steps, last]


def test_the_history_has_every_logged_step_once(undisturbed):
    rows = history(undisturbed)
    assert [int(row["step"]) for row in rows if row["loss"]] == [2, 4, 6, 7]
    assert [int(row["step"]) for row in rows if row["validation_loss"]] == [7]
    assert all(row["learning_rate"] and row["gradient_norm"] for row in rows if row["loss"])


def test_the_manifest_says_what_made_the_model(undisturbed, inputs):
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    assert manifest["seed"] == 1 and manifest["settings"] == SETTINGS and manifest["steps"] == 7
    assert manifest["inputs"]["model"] == sha256_of_folder(inputs["model"])
    assert {"torch", "transformers", "python"} <= manifest["versions"].keys()
    assert manifest["started"] <= manifest["ended"] and manifest["peak_memory_gib"] > 0
    assert manifest["samples_per_second"] > 0 and len(manifest["attempts"]) == 1


def test_the_model_folder_loads_with_from_pretrained_and_holds_no_pickle(undisturbed):
    load_model(undisturbed / "model")
    load_tokenizer(undisturbed / "model")
    assert {path.suffix for path in (undisturbed / "model").iterdir()} <= {".json", ".safetensors", ".txt"}


def test_checkpoints_go_when_training_has_succeeded_unless_told_to_stay(inputs, undisturbed, tmp_path):
    assert not list((undisturbed / "checkpoints").glob("r/seed-1/*/checkpoint-*"))
    train(inputs, tmp_path, keep_after_success=True)
    assert list((tmp_path / "checkpoints").glob("r/seed-1/*/checkpoint-7"))


@pytest.mark.parametrize("change", ["settings", "code"])
def test_a_checkpoint_of_other_settings_or_code_is_never_resumed(change, inputs, tmp_path, monkeypatch):
    train(inputs, tmp_path, killed_at=5, monkeypatch=monkeypatch)
    other = {"settings": {**SETTINGS, "learning_rate": 2e-3}} if change == "settings" else {"code": "def"}
    train(inputs, tmp_path, **other)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [attempt["resumed_at_step"] for attempt in manifest["attempts"]] == [0]
    assert not list((tmp_path / "checkpoints").glob("r/seed-1/*/checkpoint-*"))


def test_settings_changed_back_before_the_end_resume_where_they_were(inputs, tmp_path, monkeypatch):
    other = {**SETTINGS, "learning_rate": 2e-3}
    train(inputs, tmp_path, killed_at=5, monkeypatch=monkeypatch)
    train(inputs, tmp_path, killed_at=2, monkeypatch=monkeypatch, settings=other)
    train(inputs, tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["attempts"][-1]["resumed_at_step"] == 3


def test_other_checkpoint_and_logging_intervals_resume_all_the_same(inputs, tmp_path, monkeypatch):
    train(inputs, tmp_path, killed_at=5, monkeypatch=monkeypatch)
    train(inputs, tmp_path, every_steps=2)
    assert json.loads((tmp_path / "manifest.json").read_text())["attempts"][-1]["resumed_at_step"] == 3


@pytest.mark.parametrize("damage", ["marker", "file", "size", "bit"])
def test_a_half_written_or_damaged_checkpoint_is_skipped_for_the_one_before(damage, tmp_path, caplog):
    memory = TrainingMemory(tmp_path, "fingerprint")
    for step in (3, 6):
        checkpoint = memory.checkpoints / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"12345")
        mark_complete(checkpoint, keep=2)
    newest = memory.checkpoints / "checkpoint-6"
    if damage == "marker":
        (newest / COMPLETE).unlink()
    elif damage == "file":
        (newest / "model.safetensors").unlink()
    elif damage == "bit":
        (newest / "model.safetensors").write_bytes(b"12355")
    else:
        (newest / "model.safetensors").write_bytes(b"123")
    assert memory.begin() == memory.checkpoints / "checkpoint-3"
    assert "half-written or damaged checkpoint skipped" in caplog.text and not newest.exists()


def test_parts_of_a_batch_train_like_the_whole(inputs, tmp_path):
    settings = {**SETTINGS, "padding": "max_length", "max_length": 64, "max_steps": 2}
    quiet = tiny.save_model(tmp_path / "quiet", TEXTS, dropout=0.0)
    losses = []
    for parts in (1, 2):
        train(
            {**inputs, "model": str(quiet)}, tmp_path / str(parts), settings={**settings, "accumulation_steps": parts}
        )
        losses.append([float(row["loss"]) for row in history(tmp_path / str(parts)) if row["loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_precision_that_the_machine_lacks_is_refused(inputs, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="precision fp16 needs a CUDA GPU"):
        train(inputs, tmp_path, settings={**SETTINGS, "precision": "fp16"})


PREDICTION = {"batch_size": 5, "candidates": 6, "precision": "fp32", "padding": "packed"}


def test_predicted_spans_are_the_greatest_logits_of_each_context(inputs, tmp_path):
    predict(inputs["model"], inputs["windows"][0], PREDICTION, 1, tmp_path / "s.parquet")
    spans, model = Spans.read(tmp_path / "s.parquet"), load_model(inputs["model"]).eval()
    for number, row in enumerate(datasets.load_from_disk(inputs["windows"][0])):
        tensors = {name: torch.tensor([row[name]]) for name in ("input_ids", "token_type_ids")}
        with torch.inference_mode():
            output = model(**tensors)
        for name, logits in (("start", output.start_logits[0].numpy()), ("end", output.end_logits[0].numpy())):
            context = np.arange(row["context_start"], row["context_stop"])
            best = context[np.argsort(-logits[context], kind="stable")][:6]
            assert getattr(spans, f"{name}_index")[number].tolist() == best.tolist()
            np.testing.assert_allclose(getattr(spans, f"{name}_logit")[number], logits[best], atol=2e-5)
        assert spans.null_score[number] == pytest.approx(
            float(output.start_logits[0, 0] + output.end_logits[0, 0]), abs=2e-5
        )


def test_packed_rows_and_those_padded_to_any_width_give_the_same_spans(inputs, tmp_path):
    plain = Spans.empty(0, 1)
    for name, padding in {
        "packed": {"padding": "packed"},
        "longest": {"padding": "longest"},
        "fixed": {"padding": "max_length", "max_length": 96},
    }.items():
        predict(inputs["model"], inputs["windows"][0], {**PREDICTION, **padding}, 1, tmp_path / name)
        spans = Spans.read(tmp_path / name)
        if len(plain):
            assert (spans.start_index == plain.start_index).all() and (spans.end_index == plain.end_index).all()
            np.testing.assert_allclose(spans.null_score, plain.null_score, atol=2e-5)
        plain = spans


@pytest.mark.parametrize("padding", ["packed", "longest"])
def test_a_windows_spans_do_not_depend_on_those_predicted_beside_it(padding, inputs, tmp_path):
    found = []
    for size in (1, 50):
        settings = {**PREDICTION, "batch_size": size, "padding": padding}
        predict(inputs["model"], inputs["windows"][0], settings, 1, tmp_path / "s.parquet")
        found.append(Spans.read(tmp_path / "s.parquet"))
    for name, alone in vars(found[0]).items():
        if name.endswith("index"):
            assert (alone == getattr(found[1], name)).all(), name
        else:
            np.testing.assert_allclose(alone, getattr(found[1], name), atol=2e-5, err_msg=name)


@pytest.mark.parametrize("left", [False, True])
def test_left_padding_moves_labels_in_and_places_out(left):
    ids, labels = [[5, 6, 7], [5]], {"start_positions": np.array([1, 0]), "end_positions": np.array([2, 0])}
    rows = TokenRows({"input_ids": np.array([5, 6, 7, 5], np.int32)}, labels, np.array([3, 1]))
    padder = PaddingCollator(pad_id=9, pad_type=0, left=left, width=4)
    batch = padder(rows)
    assert batch["input_ids"].tolist() == ([[9, 5, 6, 7], [9, 9, 9, 5]] if left else [[5, 6, 7, 9], [5, 9, 9, 9]])
    assert batch["attention_mask"].tolist() == ([[0, 1, 1, 1], [0, 0, 0, 1]] if left else [[1, 1, 1, 0], [1, 0, 0, 0]])
    for number, moved in enumerate(batch["start_positions"].tolist()):
        assert batch["input_ids"][number, moved] == ids[number][labels["start_positions"][number]]
    shifts = torch.tensor(padder.shifts(np.array([3, 1])))
    logits = torch.arange(8.0).reshape(2, 4)
    place = Place(shifts + torch.tensor([1, 0]), shifts + torch.tensor([3, 1]), shifts, shifts)
    found = best_spans(logits, logits, place, 3)
    assert found["start_index"].tolist() == [[2, 1, -1], [0, -1, -1]]
    assert found["null_score"].tolist() == [2 * logits[0, shifts[0]], 2 * logits[1, shifts[1]]]
    assert found["row_start_index"].tolist() == [int(3 - shifts[0]), int(3 - shifts[1])]


def test_a_model_without_finite_logits_has_no_answers(inputs, tmp_path):
    model = load_model(inputs["model"])
    with torch.no_grad():
        model.qa_outputs.weight.fill_(3e38)
    model.save_pretrained(tmp_path / "nan")
    load_tokenizer(inputs["model"]).save_pretrained(tmp_path / "nan")
    with pytest.raises(InputError, match="logits are not finite"):
        predict(tmp_path / "nan", inputs["windows"][0], PREDICTION, 1, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_unusable_model_folders_are_named(inputs, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(inputs["model"], folder)
    with pytest.raises(InputError, match="BertConfig has no num_layers_typo; did you mean"):
        load_model(folder, {"num_layers_typo": 1})
    with pytest.raises(InputError, match="weights of the encoder are missing"):
        load_model(folder, {"num_hidden_layers": 2})
    (folder / "model.safetensors").write_bytes(b"\x08" + bytes(20))
    with pytest.raises(InputError, match="m: "):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="config.json"):
        load_model(folder)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="cannot be loaded for question answering"):
        load_model(folder)


def test_overrides_change_the_models_configuration(inputs):
    assert load_model(inputs["model"], {"hidden_dropout_prob": 0.3}).config.hidden_dropout_prob == 0.3


def test_several_folders_of_windows_are_trained_on_as_the_questions_of_all_at_once(inputs, tmp_path):
    files = [tiny.write_squad(tmp_path / f"{name}.json", questions=9, prefix=name) for name in ("one", "other")]
    for name, parts in {"one": files[:1], "other": files[1:], "all": files}.items():
        convert(parts, tmp_path / f"{name}.parquet")
        tokenize(tmp_path / f"{name}.parquet", load_tokenizer(inputs["model"]), tiny.WINDOWS, tmp_path / name)
    folders = {"apart": ["one", "other"], "together": ["all"]}
    folders = {way: [str(tmp_path / name) for name in names] for way, names in folders.items()}
    trained = {
        way: train({**inputs, "windows": windows}, tmp_path / way, settings={**SETTINGS, "max_steps": 3})
        for way, windows in folders.items()
    }
    assert sha256_of_folder(trained["apart"] / "model") == sha256_of_folder(trained["together"] / "model")
    assert history(trained["apart"]) == history(trained["together"])
    manifest = json.loads((trained["apart"] / "manifest.json").read_text())
    sizes = [len(datasets.load_from_disk(folder)) for folder in folders["apart"]]
    assert manifest["training_windows"] == sum(sizes) and min(sizes) > 0
    assert manifest["inputs"]["windows"].keys() == set(folders["apart"])


def test_training_on_some_questions_takes_all_their_windows_and_the_fewer_are_among_the_more(inputs, tmp_path):
    windows = inputs["windows"] * 2  # two folders, each with the same question numbers
    table = datasets.concatenate_datasets([datasets.load_from_disk(folder) for folder in windows])
    per_folder = len(table) // 2
    question = [(number // per_folder, record) for number, record in enumerate(table["record"])]
    few, more = (windows_of_drawn(windows, count, seed=3).tolist() for count in (4, 9))
    for drawn, count in ((few, 4), (more, 9)):
        asked = {question[number] for number in drawn}
        assert len(asked) == count
        assert drawn == [number for number, name in enumerate(question) if name in asked]
    assert set(few) < set(more)
    assert few != windows_of_drawn(windows, 4, seed=4).tolist()
    total = len(set(question))
    assert windows_of_drawn(windows, total, seed=3).tolist() == list(range(len(table)))
    with pytest.raises(InputError, match=rf"training.questions: {total + 1}, but there are {total} questions"):
        windows_of_drawn(windows, total + 1, seed=3)


def test_a_training_on_some_questions_is_that_on_their_windows(inputs, tmp_path):
    some = train(inputs, tmp_path / "some", settings={**SETTINGS, "questions": 5, "max_steps": 3})
    drawn = windows_of_drawn(inputs["windows"], 5, seed=1)
    table = datasets.load_from_disk(inputs["windows"][0])
    table.select(drawn).save_to_disk(tmp_path / "drawn")
    alone = train(
        {**inputs, "windows": [str(tmp_path / "drawn")]}, tmp_path / "alone", settings={**SETTINGS, "max_steps": 3}
    )
    assert sha256_of_folder(some / "model") == sha256_of_folder(alone / "model")
    for folder in (some, alone):
        assert json.loads((folder / "manifest.json").read_text())["training_windows"] == len(drawn) < len(table)
