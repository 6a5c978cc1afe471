"""Calibration: what the file says of the held-out questions, by metric, prior, scale and ensemble."""

import copy
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import tiny
from qa.common.errors import InputError
from qa.common.files import read_json
from qa.data.prepare_questions import convert
from qa.decoding import probabilities
from qa.decoding.calibrate import calibrate
from qa.decoding.null_threshold import CalibrationQuestions, fit_threshold, fit_thresholds, prior_weights
from qa.decoding.postprocess import n_best, postprocess
from qa.metrics import statistics
from qa.metrics.squad import official_metrics, raw_scores
from qa.model.spans import Spans
from qa.windows.read_windows import arrow_table
from qa.windows.tokenize_and_label import tokenize

WINDOWS = tiny.SHORT_WINDOWS | {"max_length": 48}
DECODING = {"method": "n_best", "n_best_size": 6, "max_answer_length": 9, "null_threshold": "calibrated"}
DECODING |= {"calibrate_for": "f1", "unanswerable_prior": None}

LABELS = ("start_positions", "end_positions", "null_position")


def variant(folder, prefix="q", questions=18, seed=0, tokenizer=None):
    """Write a variant that knows something: often the answer, or one word more; the paths of its spans and records."""
    rng = np.random.default_rng(seed)
    records, windows, spans = (str(folder / f"{prefix}-{seed}-{name}") for name in ("records", "windows", "spans"))
    convert([tiny.write_squad(folder / f"{prefix}.json", questions=questions, prefix=prefix)], records)
    tokenize(records, tokenizer or tiny.word_piece(), WINDOWS, windows)
    table = arrow_table(windows)
    first, stop = (table.column(name).to_numpy() for name in ("context_start", "context_stop"))
    made = Spans.empty(len(table), 6)
    for window in range(len(table)):
        size = min(6, stop[window] - first[window])
        for name in ("start", "end"):
            places = rng.choice(np.arange(first[window], stop[window]), size, replace=False)
            getattr(made, f"{name}_index")[window, :size] = places
            getattr(made, f"{name}_logit")[window, :size] = -np.sort(-rng.normal(0, 3, size))
        label, end, null = (table.column(name)[window].as_py() for name in LABELS)
        if label != null and rng.random() < 0.7:
            made.start_index[window, 0], made.end_index[window, 0] = label, min(end + rng.integers(2), stop[window] - 1)
        made.null_score[window] = rng.normal(8 if label == null else 4, 5)
    made.row_start_logit[:] = made.row_end_logit[:] = 0
    made.locate(table).write(spans)
    return spans, records


def golds_and_contexts(records):
    rows = parquet.read_table(records).to_pylist()
    return [row["answers"]["text"] for row in rows], [row["context"] for row in rows]


def slowly(spans, records):
    """Each question's candidates with text and score, its null score and its gold answers, in plain lists."""
    golds, contexts = golds_and_contexts(records)
    found = n_best(Spans.read(spans), 6, 9)
    rows = zip(found.record.tolist(), found.start.tolist(), found.stop.tolist(), found.score.tolist(), strict=True)
    lists = [[] for _ in golds]
    for record, start, stop, value in rows:
        lists[record].append((contexts[record][start:stop], value))
    return list(zip(lists, found.null_score.tolist(), golds, strict=True))


def pooled_of(made):
    """What calibration knows of questions that `slowly` gives."""
    rows = []
    for candidates, null, golds in made:
        exact, f1 = raw_scores({"x": golds}, {"x": candidates[0][0]})
        rows.append((null - candidates[0][1], exact["x"], f1["x"], not golds))
    return CalibrationQuestions(*(np.array(values) for values in zip(*rows, strict=True)))


def score_by_loops(made, threshold, prior=None):
    """Weighted EM and F1 and share answered, all in percent, by a loop over questions."""
    share = sum(not golds for _, _, golds in made) / len(made)
    sums, total = {"exact": 0.0, "f1": 0.0, "answered": 0.0}, 0.0
    for candidates, null, golds in made:
        weight = 1.0 if prior is None else (prior / share if not golds else (1 - prior) / (1 - share))
        answered = bool(candidates) and null - candidates[0][1] <= threshold
        exact, f1 = raw_scores({"x": golds}, {"x": candidates[0][0] if answered else ""})
        for name, value in (("exact", exact["x"]), ("f1", f1["x"]), ("answered", answered)):
            sums[name] += weight * value
        total += weight
    return {name: 100 * value / total for name, value in sums.items()}


def log_loss(made, threshold, temperature, prior):
    """Weighted mean log loss of the probability of what is answered, by a loop over questions."""
    share = sum(not golds for _, _, golds in made) / len(made)
    losses, total = 0.0, 0.0
    for candidates, null, golds in made:
        weight = 1.0 if prior is None else (prior / share if not golds else (1 - prior) / (1 - share))
        answered = bool(candidates) and null - candidates[0][1] <= threshold
        right = raw_scores({"x": golds}, {"x": candidates[0][0] if answered else ""})[0]["x"]
        every = [value for _, value in candidates] + [null - threshold]
        weights = [math.exp((value - max(every)) / temperature) for value in every]
        chance = weights[0 if answered else -1] / math.fsum(weights)
        losses -= weight * math.log(max(chance if right else 1 - chance, probabilities.LEAST_CHANCE))
        total += weight
    return losses / total


@pytest.mark.parametrize("prior", [None, 0.6])
def test_the_file_says_what_was_found_and_on_what(prior, tmp_path, caplog):
    files = [variant(tmp_path, "first", 18, 3), variant(tmp_path, "second", 12, 4)]
    spans, records = [list(column) for column in zip(*files, strict=True)]
    decoding = {**DECODING, "unanswerable_prior": prior}
    result = calibrate(spans, records, decoding, tmp_path / "c.json", scores_file=tmp_path / "c.parquet")
    assert read_json(tmp_path / "c.json") == json.loads(json.dumps(result))
    made = [question for each in files for question in slowly(*each)]
    assert (result["questions"], result["articles"], result["calibrated_for"]) == (30, 2, "f1")
    assert result["few_questions"] and "30 questions calibrate" in caplog.text
    assert result["unanswerable"] == pytest.approx(100 / 3)
    assert result["unanswerable_prior"] == (None if prior is None else 60)
    scores = parquet.read_table(tmp_path / "c.parquet").to_pandas()
    listed = [parquet.read_table(file, columns=["id", "title"]).to_pylist() for file in records]
    assert scores[["id", "title"]].to_dict("records") == [row for rows in listed for row in rows]
    for name in ("exact", "f1"):
        assert np.average(scores[name], weights=scores["weight"]) == pytest.approx(result[name] / 100)
    found = {name: result[name] for name in ("exact", "f1", "answered")}
    assert found == pytest.approx(score_by_loops(made, result["null_threshold"], prior))
    assert result["at_threshold_0"] == pytest.approx(score_by_loops(made, 0.0, prior))
    pooled = pooled_of(made)
    weights = prior_weights(pooled.unanswerable, prior)
    curve = probabilities.fit_logistic(pooled.difference, pooled.unanswerable, weights)
    assert probabilities.Logistic(**result["no_answer_probability"]) == curve
    assert result["null_threshold"] == pytest.approx(fit_threshold(pooled, "f1", weights))
    fit = result["temperature_fit"]
    assert fit["log_loss_before"] == pytest.approx(log_loss(made, result["null_threshold"], 1.0, prior))
    best = log_loss(made, result["null_threshold"], result["temperature"], prior)
    assert fit["log_loss_after"] == pytest.approx(best)
    for other in (0.9, 1.1):
        near = float(np.clip(result["temperature"] * other, probabilities.LOWEST, probabilities.HIGHEST))
        assert log_loss(made, result["null_threshold"], near, prior) >= best - 1e-9


def graded(folder):
    """A variant of 60 questions whose differences are known, whatever the tokenizer: null score less the only span's.

    Of 40 answerable questions 16 are right at -10 and 4 at 2, and 20 have a word too much at 0; of 20 unanswerable ones
    10 are at 0 and 10 at 10.
    """
    spans, records = variant(folder, questions=60)
    table = arrow_table(spans.removesuffix("spans") + "windows")
    made = Spans.empty(len(table), 1)
    made.row_start_logit[:] = made.row_end_logit[:] = 0
    for window, record in enumerate(table.column("record").to_pylist()):
        label, end, null = (table.column(name)[window].as_py() for name in LABELS)
        silent, number = record % 3 == 2, record // 3 * 2 + record % 3
        if silent:
            difference, start, end = 10 if record % 2 else 0, table.column("context_start")[window].as_py() + 1, None
        else:
            difference, start, end = (0 if number % 2 else 2 if number < 8 else -10), label, end + number % 2
        made.null_score[window] = difference + 10
        if silent or label != null:
            made.start_index[window], made.end_index[window] = start, start if end is None else end
            made.start_logit[window] = made.end_logit[window] = 5
    made.locate(table).write(spans)
    return spans, records


def test_metric_and_prior_are_those_of_the_decoding(tmp_path):
    spans, records = graded(tmp_path)
    found = {}
    for metric, prior in (("f1", None), ("exact", None), ("f1", 0.6)):
        decoding = {**DECODING, "calibrate_for": metric, "unanswerable_prior": prior}
        found[metric, prior] = calibrate([spans], [records], decoding, tmp_path / "c.json")
        assert found[metric, prior]["calibrated_for"] == metric
    assert 2 < found["f1", None]["null_threshold"] < 6
    assert all(-5 < found[key]["null_threshold"] < 0 for key in (("exact", None), ("f1", 0.6)))
    assert found["f1", None]["answered"] == pytest.approx(100 * 50 / 60)
    assert found["f1", None]["exact"] == pytest.approx(100 * 30 / 60)
    assert found["exact", None]["exact"] == pytest.approx(100 * 36 / 60)
    # 0.4 of the weight is the 40 answerable questions', of which 16 are right, 0.6 that of the silent ones
    assert found["f1", 0.6]["exact"] == pytest.approx(100 * (0.4 * 16 / 40 + 0.6))


def test_scores_half_as_large_have_half_the_threshold_and_the_temperature(tmp_path):
    spans, records = graded(tmp_path)
    once = calibrate([spans], [records], DECODING, tmp_path / "c.json")
    softer = Spans.read(spans)
    for name in ("start_logit", "end_logit", "null_score"):
        setattr(softer, name, getattr(softer, name) / 2)
    softer.write(tmp_path / "softer")
    half = calibrate([str(tmp_path / "softer")], [records], DECODING, tmp_path / "d.json")
    assert 2 * probabilities.LOWEST < once["temperature"] < probabilities.HIGHEST
    assert half["temperature"] == pytest.approx(once["temperature"] / 2, rel=1e-4)
    assert once["null_threshold"] > 2 and half["null_threshold"] == pytest.approx(once["null_threshold"] / 2)


def test_the_threshold_has_an_interval_over_articles_where_titles_tell_them(tmp_path):
    spans, records = graded(tmp_path)
    table, articles = parquet.read_table(records), np.arange(60) // 6
    for name, titles in (("titled", [f"article {number}" for number in articles]), ("untitled", [""] * 60)):
        parquet.write_table(table.set_column(1, "title", pa.array(titles)), tmp_path / name)
    titled, untitled = (
        calibrate([spans], [str(tmp_path / name)], DECODING, tmp_path / "c.json") for name in ("titled", "untitled")
    )
    assert titled["null_threshold"] == untitled["null_threshold"]
    method = {"level": 0.95, "resamples": 1_000, "seed": 0}
    assert titled["interval"] == method | {"resampled": "articles"}
    assert untitled["interval"] == method | {"resampled": "questions"}
    pooled = pooled_of(slowly(spans, records))
    draws = np.random.default_rng(1)
    for result, units in ((titled, 10), (untitled, 60)):
        counts = np.stack([np.bincount(draws.integers(units, size=units), minlength=units) for _ in range(1_000)])
        times = counts[:, articles] if units == 10 else counts
        drawn = fit_thresholds(pooled, "f1", np.ones(60), times.astype(float))
        expected = np.percentile(drawn, statistics.percentiles(units))
        assert result["intervals"]["null_threshold"] == pytest.approx(expected, abs=0.6)


def test_questions_without_titles_are_of_no_article(tmp_path):
    spans, records = variant(tmp_path)
    table = parquet.read_table(records)
    parquet.write_table(table.set_column(1, "title", pa.array([""] * len(table))), tmp_path / "untitled")
    assert table.column_names[1] == "title"
    untitled = str(tmp_path / "untitled")
    assert calibrate([spans], [untitled], DECODING, tmp_path / "c.json")["articles"] == 0


def test_an_ensembles_threshold_is_that_of_its_averaged_answers(tmp_path):
    one = variant(tmp_path, seed=1)
    other = variant(tmp_path, seed=2, tokenizer=tiny.byte_level_bpe())
    result = calibrate([one[0], other[0]], [one[1]], DECODING, tmp_path / "c.json")
    alone = calibrate([one[0]], [one[1]], DECODING, tmp_path / "d.json")
    assert result["questions"] == 18 and result["null_threshold"] != alone["null_threshold"]
    # the answers that postprocess writes with it have just the scores that calibration promises
    for split, calibration, variants in (("c", result, (one, other)), ("d", alone, (one,))):
        outputs = {name: str(tmp_path / f"{split}-{name}") for name in tiny.OUTPUTS}
        postprocess([m[0] for m in variants], one[1], DECODING, outputs, tmp_path / f"{split}.json")
        answers, differences = read_json(outputs["answers"]), read_json(outputs["null_scores"])
        golds = dict(zip(answers, golds_and_contexts(one[1])[0], strict=True))
        exact, f1 = raw_scores(golds, answers)
        assert calibration["exact"] == pytest.approx(100 * np.mean(list(exact.values())))
        assert calibration["f1"] == pytest.approx(100 * np.mean(list(f1.values())))
        assert calibration["answered"] == pytest.approx(100 * np.mean([bool(text) for text in answers.values()]))
        assert all(bool(answers[key]) == (value <= calibration["null_threshold"]) for key, value in differences.items())
        # the official script's -n changes no score at its default threshold, and has the best scores of the logits
        chances = read_json(outputs["no_answer_probabilities"])
        scores, by_chance = official_metrics(golds, answers), official_metrics(golds, answers, chances, 1.0)
        assert {name: by_chance[name] for name in scores} == scores
        by_score = official_metrics(golds, answers, differences, math.inf)
        assert all(by_chance[name] == by_score[name] for name in ("best_exact", "best_f1"))
        curve = probabilities.Logistic(**calibration["no_answer_probability"])
        assert curve(np.array(list(differences.values()))).tolist() == list(chances.values())
        listed = parquet.read_table(outputs["nbest"]).to_pylist()
        for row in listed:
            null = row["null_score"] - calibration["null_threshold"]
            scores = np.array([each["score"] for each in row["candidates"]] + [null])
            expected = np.exp((scores - scores.max()) / calibration["temperature"])
            found = [each["probability"] for each in row["candidates"]] + [row["null_probability"]]
            assert found == pytest.approx((expected / expected.sum()).tolist())
            silent = not answers[row["id"]]
            assert silent == (row["null_probability"] > max(found[:-1], default=0))  # what is most probable


def of_one_kind(folder, answerable):
    """Spans without any candidate for questions that all have an answer, or all have none."""
    data = copy.deepcopy(tiny.squad(12))
    for paragraph in data["data"][0]["paragraphs"]:
        paragraph["qas"] = [each for each in paragraph["qas"] if bool(each["answers"]) == answerable]
    (folder / "q.json").write_text(json.dumps(data))
    convert([folder / "q.json"], folder / "records")
    tokenize(folder / "records", tiny.word_piece(), WINDOWS, folder / "windows")
    table = arrow_table(folder / "windows")
    spans = Spans.empty(len(table), 2)
    spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
    spans.locate(table).write(folder / "spans")
    return [str(folder / "spans")], [str(folder / "records")]


def test_questions_without_any_answer_are_refused(tmp_path):
    with pytest.raises(InputError) as error:
        calibrate(*of_one_kind(tmp_path, answerable=False), DECODING, tmp_path / "c.json")
    assert "all held-out questions are unanswerable" in str(error.value)
    assert "set decodings.*.null_threshold to a number" in str(error.value)
    assert not (tmp_path / "c.json").exists()


def test_where_all_have_an_answer_none_is_left_without(tmp_path, caplog):
    """As in SQuAD 1.1: silence is never right, and the log says so."""
    result = calibrate(*of_one_kind(tmp_path, answerable=True), DECODING, tmp_path / "c.json")
    assert result["null_threshold"] >= 1e6 and result["unanswerable"] == 0
    assert result["intervals"] == result["interval"] == {}
    assert "every question is answered" in caplog.text


def test_none_that_is_unanswerable_cannot_stand_for_a_share_of_them(tmp_path):
    decoding = {**DECODING, "unanswerable_prior": 0.5}
    with pytest.raises(InputError, match="cannot stand for a share of 0.5 .*unanswerable_prior.*calibrate_on"):
        calibrate(*of_one_kind(tmp_path, answerable=True), decoding, tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()
    decoding["unanswerable_prior"] = 0.0
    assert calibrate(*of_one_kind(tmp_path, answerable=True), decoding, tmp_path / "c.json")["null_threshold"] >= 1e6
