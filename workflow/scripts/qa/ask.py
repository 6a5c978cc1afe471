"""Ask a fine-tuned model: `qa ask --model DIR --context FILE "question"`.

Without a question they are read from standard input, a line each. `--questions FILE` (or `-` for standard input) holds
JSON lines instead, each {"id", "question", "context"}: id and context may be left out where `--context` is given. The
answers are text, or JSON lines with `--json` and to JSON lines. Offsets count the context's characters from 0, the end
exclusive. From Python: `from qa.ask import Reader; Reader(DIR).answer(question, context)`; see `qa.reader`.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from qa.common.errors import InputError, shortage
from qa.reader import AT_ONCE, Answer, Question, Reader

__all__ = ["Answer", "Question", "Reader", "main"]

AROUND = 60  # characters of the context that are shown on either side of an answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer as the command line says; return the exit code: 1 for a mistake, told in one line."""
    options = _options(arguments)
    # nothing is fetched, whatever a model's files ask for
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):  # whatever the locale says
            stream.reconfigure(encoding="utf-8")
    try:
        _run(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not (lacking := shortage(error)):
            raise
        print(f"error: {lacking}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qa ask", description=__doc__.split("\n\n")[1])
    parser.add_argument(
        "question", nargs="?", help="one question; without it they come from standard input, one a line"
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="the model's folder: results/RUN/seed-N/package")
    parser.add_argument("--context", metavar="FILE", help="UTF-8 text that the answers are looked for in")
    parser.add_argument("--questions", metavar="FILE", help="JSON lines of questions; - for standard input")
    parser.add_argument("--decoding", metavar="NAME", help="a decoding of the run (default: its first)")
    parser.add_argument("--json", action="store_true", help="answers as JSON lines")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all that this process may use)")
    options = parser.parse_args(arguments)
    if options.question is not None and options.questions is not None:
        parser.error("give a question or --questions, not both")
    if options.context is None and options.questions is None:
        parser.error("--context FILE is needed, but for questions that bring their own (--questions)")
    return options


def _run(options: argparse.Namespace) -> None:
    context = None if options.context is None else _text_of(Path(options.context))
    if options.question is not None and not options.question.strip():
        raise InputError("the question is empty")
    reader = Reader(options.model, options.decoding, options.threads)
    lines = options.questions is not None
    if lines:
        stream = sys.stdin if options.questions == "-" else _opened(Path(options.questions))
        asked: Iterable[Question] = _json_lines(stream, options.questions, context)
    elif options.question is not None:
        asked = [Question(options.question, context)]
    else:
        asked = _plain_lines(sys.stdin, context)
    at_once = 1 if options.questions in (None, "-") and sys.stdin.isatty() else AT_ONCE
    several = options.question is None
    for question, answer in _paired(reader, asked, at_once):
        if lines or options.json:
            print(json.dumps(as_json(answer), ensure_ascii=False), flush=at_once == 1)
        else:
            print(as_text(question, answer, several), flush=at_once == 1)


def _paired(reader: Reader, asked: Iterable[Question], at_once: int) -> Iterator[tuple[Question, Answer]]:
    waiting: list[Question] = []

    def noted() -> Iterator[Question]:
        for question in asked:
            waiting.append(question)
            yield question

    for answer in reader.answers(noted(), at_once):
        yield waiting.pop(0), answer


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer as a line of JSON has it: that of `Answer`, its text under `answer` ("" where there is none)."""
    values = asdict(answer)
    return {"id": values.pop("id"), "answer": values.pop("text"), **values}


def as_text(question: Question, answer: Answer, several: bool = False) -> str:
    """An answer for people: text, place and probability, and where it stands; the question first, if one of several."""
    lines = [f"{_shown(question.question.strip())}"] if several else []
    if not answer:
        lines.append(f"no answer (probability {answer.null_probability:.2f} that there is none)")
        return "\n".join(lines)
    lines.append(_shown(answer.text))
    place = f"characters {answer.start:,} to {answer.end:,}, probability {answer.probability:.2f}"
    lines.append(f"  {place} ({answer.null_probability:.2f} that there is none)")
    before = question.context[max(0, answer.start - AROUND) : answer.start]
    after = question.context[answer.end : answer.end + AROUND]
    first = "… " if answer.start > AROUND else ""
    last = " …" if answer.end + AROUND < len(question.context) else ""
    lines.append(f"  {first}{_shown(before)}[{_shown(answer.text)}]{_shown(after)}{last}")
    return "\n".join(line.rstrip() for line in lines)


def _shown(text: str) -> str:
    """Text for a terminal: a line, without characters that would steer it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _text_of(path: Path) -> str:
    """A file's text as it is: offsets count its characters, carriage returns included, a byte order mark left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except PermissionError:
        raise InputError(f"{path}: it may not be read; check who owns it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not text.strip():
        raise InputError(f"{path}: it is empty, so there is no answer to look for")
    return text


def _opened(path: Path) -> TextIO:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return open(path, encoding="utf-8-sig")


def _lines(stream: TextIO, name: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that holds something."""
    try:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text ({error.reason})") from None


def _plain_lines(stream: TextIO, context: str) -> Iterator[Question]:
    asked = 0
    for number, line in _lines(stream, "standard input"):
        asked += 1
        yield Question(line.strip(), context, str(number))
    if not asked:
        raise InputError("standard input holds no question; give one as the last argument")


def _json_lines(stream: TextIO, name: str, context: str | None) -> Iterator[Question]:
    name = "standard input" if name == "-" else name
    asked = 0
    for number, line in _lines(stream, name):
        where = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not JSON ({error.msg}); each line is one question") from None
        if not isinstance(value, dict):
            raise InputError(f"{where}: not an object with `question` and `context`")
        question, own = value.get("question"), value.get("context", context)
        for key, text in (("question", question), ("context", own)):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{where}: its `{key}` is missing, empty or no text")
        asked += 1
        yield Question(question, own, str(value.get("id", number)))
    if not asked:
        raise InputError(f"{name}: no questions in there")
