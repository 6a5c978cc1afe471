"""Whatever a file of questions holds, it is read as it says or refused by file, id and reason: nothing else."""

import copy
import gzip
import json
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import damage
import tiny
from qa.common.errors import InputError
from qa.data import prepare_questions
from qa.decoding import nbest, postprocess
from qa.evaluation import score
from qa.model.spans import Spans
from qa.windows import tokenize_and_label

TOKENIZERS = {name: make() for name, make in tiny.FAMILIES.items()}
WINDOWS = tiny.WINDOWS | {"max_length": 24, "overlap": 3, "max_question_length": 6}
DECODINGS = [{"method": "n_best", "n_best_size": 5, "max_answer_length": 8}, {"method": "walkthrough"}]
MODES = ["error", "realign", "drop"]


def converted(content: bytes, name: str, misaligned: str, folder: Path) -> list[dict] | None:
    """The records of a file, None where it is refused: in one message that names it, and leaves nothing behind."""
    path, target = folder / name, folder / "records.parquet"
    path.write_bytes(content)
    try:
        prepare_questions.convert([path], target, misaligned)
    except InputError as error:
        message = str(error)
        assert str(path) in message and message.isprintable() and len(message) < 2000
        assert [file.name for file in folder.iterdir()] == [name]
        return None
    rows = parquet.read_table(target).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert text and row["context"][start : start + len(text)] == text
    return rows


def check_read_as_said(
    rows: list[dict], misaligned: str, found: list[dict] | None, refusal_is_right: bool = False
) -> None:
    """Whether records are what they have to be, by an account of its own of what rows are right."""
    names = [str(row.get("id")) for row in rows]
    fine = all(map(damage.is_right, rows)) and len(set(names)) == len(names)
    stays = damage.findable if misaligned == "realign" else damage.stands
    wanted = []
    for row in rows if fine else ():
        answers = damage.answers_of(row)
        kept = [answer for answer in answers if stays(answer, row["context"])]
        fine = fine and (misaligned != "error" or kept == answers)
        if kept or not answers:
            wanted.append((row, kept))
    fine = fine and bool(wanted)
    assert (found is not None) == fine or (refusal_is_right and found is None)
    if not found:
        return
    assert [row["id"] for row in found] == [str(row["id"]) for row, _ in wanted]
    for row, (given_row, answers) in zip(found, wanted, strict=True):
        assert (row["context"], row["question"]) == (given_row["context"], given_row["question"])
        title = given_row.get("title")
        assert row["title"] == ("" if title is None else str(title))
        texts = [answer["text"] for answer in answers]
        if misaligned == "realign":
            assert list(map(damage.folded, row["answers"]["text"])) == list(map(damage.folded, texts))
        else:
            assert row["answers"]["text"] == texts
            assert row["answers"]["answer_start"] == [answer["answer_start"] for answer in answers]


@given(damage.damaged_rows(), st.sampled_from(MODES))
def test_json_lines_are_read_as_they_say_or_refused(rows, misaligned):
    with tempfile.TemporaryDirectory() as folder:
        check_read_as_said(rows, misaligned, converted(damage.in_lines(rows), "q.jsonl", misaligned, Path(folder)))


@given(damage.damaged_rows(), st.sampled_from(MODES), st.booleans(), st.booleans())
def test_nested_json_is_read_as_it_says_or_refused(rows, misaligned, indented, raw):
    text = json.dumps(damage.nested(rows), indent=1 if indented else None, ensure_ascii=not raw)
    content = text.encode("utf-8", "surrogatepass")
    halves = raw and not damage._whole(text)  # bytes that are no UTF-8, wherever they are
    with tempfile.TemporaryDirectory() as folder:
        check_read_as_said(rows, misaligned, converted(content, "q.json", misaligned, Path(folder)), halves)


@given(damage.right_rows(), st.sampled_from(sorted(TOKENIZERS)), st.randoms(use_true_random=False))
def test_right_questions_come_through_every_stage_each_id_once(rows, family, random):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kind = random.choice(["csv", "parquet", "jsonl", "json.gz"])
        content = {
            "csv": lambda: damage.in_csv(rows),
            "parquet": lambda: in_parquet(rows),
            "jsonl": lambda: damage.in_lines(rows, "\r\n"),
            "json.gz": lambda: gzip.compress(json.dumps(damage.nested(rows)).encode()),
        }[kind]()
        check_read_as_said(rows, "error", converted(content, f"q.{kind}", "error", folder))
        answered(folder, rows, TOKENIZERS[family], random)


def answered(folder: Path, rows: list[dict], tokenizer, random) -> None:
    """Made-up spans of all windows decoded and scored: answers are pieces of their contexts, one for each id."""
    records = folder / "records.parquet"
    tokenize_and_label.tokenize(records, tokenizer, WINDOWS, folder / "windows")
    table = datasets.load_from_disk(folder / "windows").with_format("arrow")[:]
    lengths = [len(row) for row in table.column("input_ids").to_pylist()]
    assert max(lengths) <= WINDOWS["max_length"] and set(table.column("id").to_pylist()) == {row["id"] for row in rows}
    labels_hold_answers(table.to_pylist(), rows)
    made_up(table, random.randrange(1000)).locate(table).write(folder / "spans.parquet")
    outputs = {key: str(folder / key) for key in tiny.OUTPUTS}
    for each in DECODINGS:
        spans = [str(folder / "spans.parquet")]
        postprocess.postprocess(spans, records, {**each, "null_threshold": 0.0}, outputs)
        found = json.loads(Path(outputs["answers"]).read_text())
        assert list(found) == [row["id"] for row in rows]
        assert all(found[row["id"]] in row["context"] for row in rows)
        assert list(nbest.read_nbest(outputs["nbest"]).best) == list(found)
        measured = score.score(*list(outputs.values())[:3], folder / "metrics.json", folder / "scores.parquet")
        assert measured["total"] == len(rows) and 0 <= measured["exact"] <= measured["f1"] <= 100


def labels_hold_answers(table: list[dict], rows: list[dict]) -> None:
    """A labelled window's span holds a whole gold answer."""
    golds = {row["id"]: [bounds(answer) for answer in damage.answers_of(row)] for row in rows}
    for window in table:
        first, last = window["start_positions"], window["end_positions"]
        if first == window["null_position"] or any(begin == stop for begin, stop in golds[window["id"]]):
            continue
        left, right = window["offset_start"][first], window["offset_end"][last]
        assert any(left <= begin and stop <= right for begin, stop in golds[window["id"]])
        assert window["context_start"] <= first <= last < window["context_stop"]


def bounds(answer: dict) -> tuple[int, int]:
    """The characters of an answer without those at its ends that a tokenizer may drop, where none is beside a letter.

    White space, control characters, and combining marks with nothing to combine with.
    """
    kept, follows = [], False
    for place, letter in enumerate(answer["text"]):
        kind = unicodedata.category(letter)[0]
        follows = kind not in "CZ" and letter != "\ufffd" and (kind != "M" or follows)
        kept += [answer["answer_start"] + place] * follows
    return (kept[0], kept[-1] + 1) if kept else (0, 0)


def made_up(table: pa.Table, seed: int) -> Spans:
    draw, count, k = np.random.default_rng(seed), table.num_rows, 4
    spans = Spans.empty(count, k)
    begins, stops = (table.column(name).to_numpy() for name in ("context_start", "context_stop"))
    for side in ("start", "end"):
        places = begins[:, None] + np.arange(k)
        inside = places < stops[:, None]
        getattr(spans, f"{side}_index")[:] = np.where(inside, places, -1)
        logits = -np.sort(-draw.normal(size=(count, k)), axis=1)
        getattr(spans, f"{side}_logit")[:] = np.where(inside, logits, -np.inf)
        getattr(spans, f"row_{side}_index")[:] = draw.integers(0, WINDOWS["max_length"], count)
        getattr(spans, f"row_{side}_logit")[:] = draw.normal(size=count)
    spans.null_score[:] = draw.normal(size=count)
    return spans


def in_parquet(rows: list[dict]) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist([{**row, "answers": both_lists(row)} for row in rows]), sink)
    return sink.getvalue().to_pybytes()


def both_lists(row: dict) -> dict:
    return {key: [answer[key] for answer in row["answers"]] for key in ("text", "answer_start")}


@given(damage.right_rows(3), st.data())
def test_nesting_that_is_wrong_anywhere_is_refused_or_harmless(rows, data):
    dataset = copy.deepcopy(damage.nested(rows))
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(list(places(dataset)) or [(dataset, "data")]))
        if data.draw(st.booleans()):
            holder[key] = data.draw(damage.odd)
        else:
            del holder[key]
    with tempfile.TemporaryDirectory() as folder:
        found = converted(json.dumps(dataset).encode(), "q.json", data.draw(st.sampled_from(MODES)), Path(folder))
        assert found is None or {row["context"] for row in found} <= {row["context"] for row in rows} | {"", "x"}


def places(value):
    if isinstance(value, dict | list):
        for key in list(value if isinstance(value, dict) else range(len(value))):
            yield value, key
            yield from places(value[key])


WRITERS = {
    "q.jsonl": damage.in_lines,
    "q.json": lambda rows: json.dumps(damage.nested(rows), ensure_ascii=False).encode(),
    "q.csv": damage.in_csv,
    "q.parquet": in_parquet,
}


@given(damage.right_rows(3), st.sampled_from(sorted(WRITERS)), st.booleans(), st.data())
def test_bytes_that_are_broken_are_refused_or_still_mean_questions(rows, name, packed, data):
    content = WRITERS[name](rows)
    if packed:
        content, name = gzip.compress(content, mtime=0), f"{name}.gz"
    with tempfile.TemporaryDirectory() as folder:
        found = converted(data.draw(damage.broken(content)), name, data.draw(st.sampled_from(MODES)), Path(folder))
        assert found is None or found  # a file without questions is refused


ROW = {"id": "q", "title": "t", "context": "the mill", "question": "what?", "answers": both_lists({"answers": []})}


@given(st.lists(st.fixed_dictionaries({}, optional={key: damage.odd | st.just(ROW[key]) for key in ROW}), max_size=3))
@example([{**ROW, "context": b"\xff\xfe"}])
@example([{**ROW, "answers": [("text", "the"), ("answer_start", "0")]}])
def test_a_parquet_file_of_any_columns_is_read_or_refused(rows):
    try:
        table = pa.Table.from_pylist(rows)
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return  # no such file can be
    with tempfile.TemporaryDirectory() as folder:
        found = converted(sink.getvalue().to_pybytes(), "q.parquet", "error", Path(folder))
        assert found is None or len(found) == len(rows) > 0


DEEP = {
    "lists": b"[" * 100_000,
    "objects": b'{"data":' * 100_000,
    "lines": b'{"id": "a", "context": "c", "question": "q", "answers": []}\n' + b"[" * 100_000,
    "a number of many digits": b'{"id": ' + b"1" * 10_000 + b"}",
    "a number of many digits in a line": json.dumps(ROW).encode() + b'\n{"id": ' + b"1" * 10_000 + b"}",
    "answers in answers": json.dumps({**ROW, "answers": "[" * 100_000}).encode(),
}


@pytest.mark.parametrize("case", DEEP)
def test_json_that_is_too_deep_or_too_long_for_python_is_refused(case, tmp_path):
    assert converted(DEEP[case], "q.json", "error", tmp_path) is None


def test_a_context_of_a_megabyte_that_many_share_is_in_memory_once(tmp_path):
    context = pa.DictionaryArray.from_arrays(pa.array([0] * 1500), pa.array(["the mill of Tarn " * 60_000]))
    table = pa.Table.from_pylist([{**ROW, "id": str(number), "context": ""} for number in range(1500)])
    parquet.write_table(table.set_column(2, "context", context), tmp_path / "q.parquet")
    assert peak_memory_of(tmp_path / "q.parquet", tmp_path / "r.parquet") < 1.0
    assert parquet.read_metadata(tmp_path / "r.parquet").num_rows == 1500


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_gzip_bomb_is_refused_before_it_fills_memory_or_disk(kind, tmp_path):
    bomb = tmp_path / f"q.{kind}.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as stream:
        for _ in range(300):
            stream.write(b" " * 2**20)
    with pytest.raises(InputError, match=r"unpacks to more than \d+ MiB, 100 times its size.*gunzip"):
        list(prepare_questions.read(bomb))


def peak_memory_of(source: Path, target: Path) -> float:
    """GiB that a process of its own takes to convert a file."""
    code = (
        f"import re, sys; sys.path[:0] = {sys.path!r}\n"
        "from qa.data import prepare_questions as squad; squad.convert(sys.argv[1:2], sys.argv[2])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", code, str(source), str(target)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 2**20
