"""Records: every kind of file reads to the same questions, and a fault is named by file, id and kind."""

import csv
import errno
import gzip
import json
import shutil

import pandas as pd
import pytest

import tiny
from qa.common.errors import InputError
from qa.data import file_formats
from qa.data.prepare_questions import convert, read, split_files

SQUAD = tiny.squad(9)


def flat_rows():
    for article in SQUAD["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                texts = [answer["text"] for answer in question["answers"]]
                starts = [answer["answer_start"] for answer in question["answers"]]
                yield {
                    "id": question["id"],
                    "title": article["title"],
                    "context": paragraph["context"],
                    "question": question["question"],
                    "answers": {"text": texts, "answer_start": starts},
                }


def write_nested(path):
    path.write_text(json.dumps(SQUAD, ensure_ascii=False), encoding="utf-8-sig")


def write_version_1(path):
    answerable = [[q for q in p["qas"] if q["answers"]] for p in SQUAD["data"][0]["paragraphs"]]
    paragraphs = [
        {"context": p["context"], "qas": [{key: q[key] for key in ("id", "question", "answers")} for q in qas]}
        for p, qas in zip(SQUAD["data"][0]["paragraphs"], answerable, strict=True)
    ]
    path.write_text(
        json.dumps({"version": "1.1", "data": [{"title": SQUAD["data"][0]["title"], "paragraphs": paragraphs}]})
    )


def write_lines(path):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in flat_rows()) + "\n", encoding="utf-8")


def write_list(path):
    path.write_text(json.dumps(list(flat_rows())), encoding="utf-8")


def write_parquet(path):
    pd.DataFrame(flat_rows()).to_parquet(path)


def write_csv(path):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["id", "title", "context", "question", "answers"])
        writer.writeheader()
        writer.writerows({**row, "answers": json.dumps(row["answers"])} for row in flat_rows())


def write_plain_csv(path):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "title", "context", "question", "answer_text", "answer_start"])
        for row in flat_rows():
            answer = [*row["answers"]["text"], *row["answers"]["answer_start"]] or ["", ""]
            writer.writerow([row["id"], row["title"], row["context"], row["question"], *answer])


WRITERS = {
    "nested.json": write_nested,
    "lines.jsonl": write_lines,
    "lines.json": write_lines,
    "list.json": write_list,
    "table.parquet": write_parquet,
    "table.csv": write_csv,
    "plain.csv": write_plain_csv,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_kind_of_file_reads_to_the_same_questions(name, zipped, tmp_path):
    path = tmp_path / name
    WRITERS[name](path)
    if zipped:
        with open(path, "rb") as plain, gzip.open(tmp_path / f"{name}.gz", "wb") as packed:
            shutil.copyfileobj(plain, packed)
        path = tmp_path / f"{name}.gz"
    target = tmp_path / "records.parquet"
    tally = convert([path], target)
    assert (tally.questions, tally.unanswerable) == (9, 3)
    rows = pd.read_parquet(target)
    assert list(rows.columns) == ["id", "title", "context", "question", "answers"]
    for row, expected in zip(rows.to_dict("records"), flat_rows(), strict=True):
        row["answers"] = {key: list(values) for key, values in row["answers"].items()}
        assert row == expected


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.parquet", "texts.csv"])
@pytest.mark.parametrize("misaligned", ["error", "realign"])
def test_a_list_of_texts_has_its_places_in_the_list_answer_starts_beside_it(misaligned, name, tmp_path):
    row = {"id": "q", "context": "aa bb aa", "question": "?", "answers": ["aa", "bb"], "answer_starts": [6, 3]}
    path, frame = tmp_path / name, pd.DataFrame([row])
    if name.endswith("jsonl"):
        path.write_text(json.dumps(row))
    else:
        frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    assert convert([path], tmp_path / "r.parquet", misaligned).realigned == 0
    assert list(pd.read_parquet(tmp_path / "r.parquet")["answers"][0]["answer_start"]) == [6, 3]


def test_squad_version_1_reads_as_all_answerable(tmp_path):
    write_version_1(tmp_path / "v1.json")
    tally = convert([tmp_path / "v1.json"], tmp_path / "r.parquet")
    assert (tally.questions, tally.unanswerable) == (6, 0)


def test_several_files_follow_one_another(tmp_path):
    paths = [tiny.write_squad(tmp_path / f"{name}.json", questions=3, prefix=name) for name in "ba"]
    convert(paths, tmp_path / "r.parquet")
    assert list(pd.read_parquet(tmp_path / "r.parquet")["id"]) == ["b-0", "b-1", "b-2", "a-0", "a-1", "a-2"]


def one_question(tmp_path, **changes):
    row = {"id": "q1", "context": "aa bb aa", "question": "?", "answers": {"text": ["aa"], "answer_start": [0]}}
    row = {key: value for key, value in {**row, **changes}.items() if value is not ...}
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(row))
    return path


FAULTS = {
    "id missing": ({"id": None}, "line 1 has no `id`"),
    "id a fraction": ({"id": 1.0}, "line 1: `id` is 1.0, neither a text nor a whole number"),
    "question missing": ({"question": ...}, "id 'q1': `question` is missing"),
    "context a number": ({"context": 7}, "id 'q1': `context` is int, not text"),
    "half a character": ({"context": "a\ud800"}, "id 'q1': `context` holds half a surrogate pair"),
    "title a list": ({"title": ["t"]}, "id 'q1': `title` is list, not text"),
    "title a truth value": ({"title": False}, "id 'q1': `title` is bool, not text"),
    "half a character in the title": ({"title": "a\ud800"}, "id 'q1': `title` holds half a surrogate pair"),
    "question blank": ({"question": " "}, "id 'q1': `question` is empty"),
    "answers missing": ({"answers": ...}, "id 'q1': `answers` is missing"),
    "texts missing": ({"answers": {"answer_start": [0]}}, "needs the lists `text` and `answer_start`"),
    "starts missing": ({"answers": {"text": ["aa"]}}, "id 'q1': 'aa' has no answer_start .*`realign` finds 1 of them"),
    "answers a plain text": ({"answers": "7"}, "a plain text belongs in `answer_text`"),
    "a list of texts with one number": ({"answers": ["aa"], "answer_start": 0}, "needs the lists .* equally long"),
    "fewer starts than texts": ({"answers": ["aa", "bb"], "answer_starts": [0]}, "needs the lists .* equally long"),
    "lists differ": ({"answers": {"text": ["aa"], "answer_start": []}}, "equally long"),
    "start a text": ({"answers": {"text": ["aa"], "answer_start": ["0"]}}, "'0', not a whole number"),
    "start a fraction": ({"answers": ..., "answer_text": "aa", "answer_start": 0.9}, "'0.9', not a whole number"),
    "start infinite": ({"answers": ..., "answer_text": "aa", "answer_start": float("inf")}, "'inf', not a whole"),
    "start no number": ({"answers": ..., "answer_text": "aa", "answer_start": float("nan")}, "has no answer_start"),
    "start a truth value": ({"answers": ..., "answer_text": "aa", "answer_start": False}, "'False', not a whole"),
    "answer the number 0": ({"answers": ..., "answer_text": 0, "answer_start": 0}, "an answer needs a text `text`"),
    "answer false": ({"answers": ..., "answer_text": False, "answer_start": 0}, "an answer needs a text `text`"),
    "impossible as a number": ({"is_impossible": 1}, "`is_impossible` is true, yet there are answers"),
    "impossible yet answered": ({"is_impossible": True}, "`is_impossible` is true, yet there are answers"),
    "possible yet without answers": (
        {"is_impossible": False, "answers": []},
        "`is_impossible` is false, yet there are no answers",
    ),
    "possible yet with a blank answer": (
        {"is_impossible": 0, "answers": {"text": [" "], "answer_start": [2]}},
        "`is_impossible` is false, yet there are no answers",
    ),
    "misplaced": ({"answers": {"text": ["bb"], "answer_start": [0]}}, r"id 'q1': 'bb' at 0, where 'aa bb aa' stands"),
    "negative": ({"answers": {"text": ["aa"], "answer_start": [-2]}}, "id 'q1': 'aa' at -2"),
    "one of two answers empty": ({"answers": {"text": ["", "aa"], "answer_start": [0, 0]}}, "do not stand at their"),
    "row of other keys": (
        {"id": ..., "qid": "q1"},
        "line 1 has no `id` .*it has 'context', 'question', 'answers', 'qid'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_and_id(fault, tmp_path):
    changes, message = FAULTS[fault]
    path = one_question(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        convert([path], tmp_path / "r.parquet")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "r.parquet").exists()


def test_an_id_used_twice_is_named(tmp_path):
    path = tiny.write_squad(tmp_path / "a.json", questions=2)
    with pytest.raises(InputError, match="id 'q-0' is in .*a.json already"):
        convert([path, path], tmp_path / "r.parquet")


TWICE = {
    "q.jsonl": b'{"id": "a", "context": "c", "question": "?", "answers": [], "id": "b"}\n',
    "list.json": b'[{"id": "a", "context": "c", "question": "?", "answers": [], "id": "b"}]',
    "nested.json": b'{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "a", "question": "?", "answers": [],'
    b' "id": "b"}]}]}]}',
}


@pytest.mark.parametrize("name", TWICE)
def test_a_key_twice_in_one_object_is_named_with_its_last_value(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(TWICE[name])
    with pytest.raises(InputError, match=f"{name}.*an object has the key 'id' twice, at last with 'b'"):
        list(read(path))


BROKEN = {
    "cut.json": b'{"data": [',
    "latin.json": b'{"data": "\xe9"}',
    "latin.csv": b"id,question,context,answers\n1,\xe9,c,[]\n",
    "other.json": b'{"rows": []}',
    "cut.json.gz": gzip.compress(b'{"data": []}' * 50)[:-9],
    "plain.json.gz": b"not gzip",
    "cut.parquet": b"PAR1",
    "nested.json": b'{"data": [{"title": "t", "paragraphs": [{"context": "c"}]}]}',
    "empty.csv": b"",
    "half.jsonl": b'{"id": "a"}\n{"id": ',
    "number.jsonl": b'{"id": "a", "context": "c", "question": "?", "answers": []}\n5\n',
    "notes.txt": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    advice = "save the file as UTF-8" if name.startswith("latin") else ""
    with pytest.raises(InputError, match=f"{name}.*{advice}"):
        list(read(path))


def test_a_file_without_questions_is_refused(tmp_path):
    path = tmp_path / "none.json"
    path.write_text('{"data": []}')
    with pytest.raises(InputError, match="no questions"):
        convert([path], tmp_path / "r.parquet")


def test_json_rows_are_never_taken_for_dates(tmp_path):
    path = tmp_path / "d.jsonl"
    dates = {"text": ["1412-05-01"], "answer_start": [3]}
    row = {"id": "1412-05-02", "title": None, "context": "on 1412-05-01", "question": "?", "answers": dates}
    path.write_text(json.dumps(row) + "\n\n")
    (record,) = read(path)
    assert (record.id, record.title, record.answers[0].text) == ("1412-05-02", "", "1412-05-01")


def test_the_first_ten_megabytes_may_be_unanswerable(tmp_path):
    path = tmp_path / "long.jsonl"
    row = {"context": "x" * 1000, "question": "?", "answers": {"text": [], "answer_start": []}}
    rows = [json.dumps({"id": str(number), **row}) for number in range(11_000)]
    last = {"id": "last", **row, "answers": {"text": ["x"], "answer_start": [0]}}
    path.write_text("\n".join([*rows, json.dumps(last)]))
    assert convert([path], tmp_path / "r.parquet").unanswerable == 11_000


def test_cells_of_a_csv_stay_what_they_are(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,context,question,answer_text,answer_start\n007,NA is Namibia,null?,NA,0\n")
    (row,) = read(path)
    assert (row.id, row.question, row.answers[0].text) == ("007", "null?", "NA")


@pytest.mark.parametrize("cut", ["q2,aa bb", "q2,aa bb,which?", "q2,aa bb,which?,aa"])
def test_a_csv_that_is_cut_inside_a_row_is_refused_and_never_read_as_unanswerable(cut, tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(f"id,context,question,answer_text,answer_start\nq1,aa bb,what?,aa,0\n{cut}")
    with pytest.raises(InputError, match=r"c\.csv: cannot be read as csv \(line 3 has fewer cells than the first"):
        list(read(path))


def test_optional_columns_of_a_csv_may_be_missing_and_empty_answers_are_none(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,context,question,answer_text\nq1,aa bb,what?,\n")
    (row,) = read(path)
    assert (row.title, row.answers) == ("", ())


def test_starts_of_a_column_with_gaps_are_whole_numbers(tmp_path):
    path = tmp_path / "gaps.parquet"
    rows = {"id": ["a", "b"], "context": ["aa bb"] * 2, "question": ["?"] * 2}
    pd.DataFrame({**rows, "answer_text": ["bb", None], "answer_start": [3.0, None]}).to_parquet(path)
    assert [[(a.text, a.start) for a in row.answers] for row in read(path)] == [[("bb", 3)], []]
    (lines := tmp_path / "gaps.jsonl").write_text(f'{{"context": "{CONTEXT}", {ROW.replace("[30]", "[NaN]")}}}')
    assert [answer.start for row in read(lines) for answer in row.answers] == [None]


CONTEXT = "It was launched at Torsnes in 1893."
ROW = '"id": "1", "question": "When?", "answers": {"text": ["1893"], "answer_start": [30]}'
QAS = f'"context": "{CONTEXT}", "qas": [{{{ROW}}}]'
HEADER = "id,context,question,answer_text,answer_start"
LISTED = '"[{""text"": ""1893"", ""answer_start"": 30.0}]"'
PYTHON = LISTED.replace('""', "'")
ARRAYS = "\"{'text': array(['1893'], dtype=object), 'answer_start': array([30], dtype=int32)}\""  # datasets' to_csv
NUMPY = "\"{'text': [np.str_('1893')], 'answer_start': [np.int64(30)]}\""  # pandas' to_csv, with NumPy 2
SHAPES = {
    "rows under data.json": f'{{"version": "0.1.0", "data": [{{"context": "{CONTEXT}", {ROW}}}]}}',
    "paragraphs under data.json": f'{{"data": [{{{QAS}}}]}}',
    "list of paragraphs.json": f"[{{{QAS}}}]",
    "a paragraph a line.jsonl": f"{{{QAS}}}\n",
    "an article a line.jsonl": f'{{"title": "", "paragraphs": [{{{QAS}}}]}}\n',
    "one article.json": f'{{\n"paragraphs": [\n{{{QAS}}}]}}',
    "starts as fractions.jsonl": f'{{"context": "{CONTEXT}", {ROW.replace("[30]", "[30.0]")}}}',
    "gaps.csv": f"{HEADER}\n1,{CONTEXT},When?,1893,30.0\n",
    "fractions in lists.csv": f"id,context,question,answers\n1,{CONTEXT},When?,{LISTED}\n",
    "Python values in cells.csv": f"id,context,question,answers\n1,{CONTEXT},When?,{PYTHON}\n",
    "arrays in cells.csv": f"id,context,question,answers\n1,{CONTEXT},When?,{ARRAYS}\n",
    "numbers of NumPy in cells.csv": f"id,context,question,answers\n1,{CONTEXT},When?,{NUMPY}\n",
    "semicolons.csv": f"{HEADER.replace(',', ';')}\n1;{CONTEXT};When?;1893;30\n",
    "tabs.csv": f"{HEADER}\n1,{CONTEXT},When?,1893,30\n".replace(",", "\t"),
    "tabs.tsv": f"{HEADER}\n1,{CONTEXT},When?,1893,30\n".replace(",", "\t"),
    "spaces.csv": f"{HEADER.replace(',', ', ')}\n1,{CONTEXT},When?,1893,30\n",
    "capitals.csv": f"{HEADER.title()}\n1,{CONTEXT},When?,1893,30\n",
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_shapes_that_other_tools_write_are_read(name, tmp_path):
    (tmp_path / name).write_text(SHAPES[name])
    (row,) = read(tmp_path / name)
    assert (row.id, row.title, row.context, row.question) == ("1", "", CONTEXT, "When?")
    assert [(answer.text, answer.start) for answer in row.answers] == [("1893", 30)]


def test_columns_of_a_parquet_file_may_have_capitals(tmp_path):
    row = {"ID": "1", "Context": CONTEXT, "Question": "When?", "Answer_Text": "1893", "Answer_Start": 30, "Note": "x"}
    pd.DataFrame([row]).to_parquet(tmp_path / "q.parquet")
    assert [row.answers[0].start for row in read(tmp_path / "q.parquet")] == [30]


UNKNOWN = {
    "other names.csv": (
        "key;text;question\n1;a;b\n",
        "no column id, context, `answers` or `answer_text`; it has 'key', ",
    ),
    "twice.csv": ("id,ID,context,question,answers\n", "two columns have the name id"),
    "splits.json": ('{"train": [], "validation": []}', "neither SQuAD JSON .*; it has 'train', 'validation'"),
    "columns.json": ('{"id": {"0": "1"}, "context": {"0": "a"}}', "`id` is a whole column"),
    "array.csv": ("id,context,question,answers\n1,a b,c,['a' 'b']\n", "neither JSON nor a Python value with commas"),
    "lines.csv": ("id,context,question,answers\n1,a b,c,\"['a'\n 'b']\"\n", "neither JSON nor a Python value"),
    "plain.csv": ("id,context,question,answers\n1,a b,c,a b\n", "a plain text belongs in `answer_text`"),
    "call.csv": ("id,context,question,answers\n1,a,b,list(['a'])\n", "neither JSON nor a Python value"),
    "quotes.tsv": (
        'id\tcontext\tquestion\tanswer_text\n1\ta b\tc\ta\n2\t"Go," he said.\t?\tGo\n',
        "'tab' expected after '\"' in the row from line 3 on; a cell with quotation marks in it must be quoted",
    ),
    "prodigy.jsonl": ('{"text": "a", "spans": []}\n{"text": "b"}\n', "line 1 is no question.*it has 'text', 'spans'"),
    "header.jsonl": ('{"header": {"dataset": "FerryQA"}}\n{"id": "", "context": "a", "qas": []}\n', "MRQA's form"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_shape_that_is_not_read_is_named_by_what_it_has(name, tmp_path):
    content, message = UNKNOWN[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        list(read(tmp_path / name))


@pytest.mark.parametrize("misaligned", ["error", "realign", "drop"])
@pytest.mark.parametrize("impossible", [True, ...])
@pytest.mark.parametrize("blank", ["", " "])
def test_a_question_whose_answers_are_all_empty_is_unanswerable(misaligned, impossible, blank, tmp_path):
    path = one_question(tmp_path, answers={"text": [blank, ""], "answer_start": [2, -1]}, is_impossible=impossible)
    counts = convert([path], tmp_path / "r.parquet", misaligned)
    assert (counts.questions, counts.unanswerable, counts.dropped_answers) == (1, 1, 0)


@pytest.mark.parametrize("title, text", [(1984, "1984"), (0, "0"), (None, ""), (..., ""), ("", "")])
def test_a_title_that_is_a_whole_number_is_its_text_and_none_is_empty(title, text, tmp_path):
    (row,) = read(one_question(tmp_path, title=title))
    assert row.title == text


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_is_not_called_broken_where_the_machine_fails(kind, tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")
        yield

    monkeypatch.setattr(file_formats, f"_{kind}_rows", failing)
    (tmp_path / f"q.{kind}").write_text("")
    with pytest.raises(OSError, match="Input/output error"):
        list(read(tmp_path / f"q.{kind}"))


def test_the_files_of_a_split_come_in_order_and_messages_name_the_users_own(tmp_path):
    places = ["train/00000-b.jsonl", "train/00001-a.jsonl"]
    row = {"id": "q", "context": "aa", "question": "?", "answers": [{"text": "bb", "answer_start": 0}]}
    (tmp_path / "train").mkdir()
    for place in places:
        (tmp_path / place).write_text(f"\n{json.dumps(row)}\n")
        row |= {"id": "r"}
    source = {"splits": {"train": places}, "files": {place: {"from": f"my/{place[-7:]}"} for place in places}}
    (tmp_path / "source.json").write_text(json.dumps(source))
    files, names = split_files(tmp_path, "train")
    assert (files, names) == ([tmp_path / place for place in places], ["my/b.jsonl", "my/a.jsonl"])
    with pytest.raises(InputError, match="my/b.jsonl: line 2, id 'q': 'bb' at 0") as caught:
        convert(files, tmp_path / "r.parquet", names=names)
    assert str(tmp_path) not in str(caught.value)
    (tmp_path / "train/00001-a.jsonl").write_text("[]")
    with pytest.raises(InputError, match="^my/a.jsonl: no questions in there"):
        convert(files[1:], tmp_path / "r.parquet", names=names[1:])
    (tmp_path / "source.json").write_text(json.dumps({**source, "repo": "a/b"}))
    assert split_files(tmp_path, "train") == (files, [str(file) for file in files])


def test_a_limit_takes_the_same_questions_in_any_order_and_a_greater_one_keeps_them(tmp_path, caplog):
    rows = [{**row, "id": f"{number}{row['id']}"} for number in range(20) for row in flat_rows()]

    def ids(limit, rows=rows):
        (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
        convert([tmp_path / "q.jsonl"], tmp_path / "r.parquet", limit=limit)
        return list(pd.read_parquet(tmp_path / "r.parquet")["id"])

    whole, few, more = ids(None), ids(7), ids(40)
    assert "only 7 of these questions are used" in caplog.text
    assert ids(7, rows[::-1]) == few[::-1] and ids(10_000) == whole
    assert len(few) == 7 and len(more) == 40 and {*few} < {*more}
    assert [row for row in whole if row in {*more}] == more and more != whole[:40]
