"""question_scores.parquet of any texts, whether or not a decoding would give them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from qa.evaluation import question_scores
from qa.metrics.squad import raw_scores


def write_scores(
    records_file: str | Path, texts: dict[str, str], target: str | Path, windows: Sequence[int] = ()
) -> str:
    """Score `texts` by id against a file of questions; `windows` of each question, 1 by default. Returns the path."""
    records = parquet.read_table(records_file).to_pylist()
    exact, f1 = raw_scores({record["id"]: record["answers"]["text"] for record in records}, texts)
    rows = []
    for number, record in enumerate(records):
        name, gold = record["id"], record["answers"]
        places = zip(gold["text"], gold["answer_start"], strict=True)
        row = {key: record[key] for key in ("id", "title", "question", "context")}
        row |= {"gold": [{"text": text, "start": start} for text, start in places], "answer": texts[name]}
        row |= {"exact": exact[name], "f1": f1[name], "windows": windows[number] if len(windows) else 1}
        place = record["context"].find(texts[name]) if texts[name] else -1
        row |= {"start": place, "stop": place + len(texts[name]) if place >= 0 else -1}
        row |= dict.fromkeys(("probability", "uncalibrated_probability", "null_score", "null_probability"), 0.5)
        rows.append(row)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows, question_scores.schema()), target)
    return str(target)
