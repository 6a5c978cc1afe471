"""Ask a fine-tuned model: `qa ask --model DIR --context FILE "question"`.

Without a question they are read from standard input, a line each. `--questions FILE` (or `-` for standard input) holds
JSON lines instead, each {"id", "question", "context"}, or "document" (the path of a text) in place of "context". Where
a line has neither, --context counts. A folder as --context asks each question of each .txt file in it. The answers are
text, or JSON lines: with --json, with --questions and with a folder. --top N adds the N most probable spans.

Offsets count the context's characters from 0, the end exclusive. From Python: `from qa.ask import Reader;
Reader(DIR).answer(question, context)`; see `qa.reader`.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import tee
from pathlib import Path
from typing import Any, TextIO

from qa.common.errors import InputError, shortage
from qa.common.text import printable
from qa.reader import AT_ONCE, Answer, Candidate, Question, Reader

__all__ = ["Answer", "Candidate", "Question", "Reader", "main"]

AROUND = 60  # characters of the context that are shown on either side of an answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer as the command line says; return the exit code: 1 for a mistake, told in one line."""
    return run_offline(_run, _options(arguments))


def run_offline(command: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Run a command that reads models, without the Hub; return its exit code: 1 for a mistake, told in one line."""
    # nothing is fetched, whatever a model's files ask for
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for stream, encoding in ((sys.stdin, "utf-8-sig"), (sys.stdout, "utf-8")):
        if hasattr(stream, "reconfigure"):  # whatever the locale says
            stream.reconfigure(encoding=encoding)
    try:
        command(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
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
    parser.add_argument(
        "--context", metavar="PATH", help="UTF-8 text to look for answers in, or a folder of .txt files"
    )
    parser.add_argument("--questions", metavar="FILE", help="JSON lines of questions; - for standard input")
    parser.add_argument(
        "--top", type=int, default=0, metavar="N", help="also the N most probable spans, answered or not"
    )
    parser.add_argument("--json", action="store_true", help="answers as JSON lines")
    add_reader_options(parser)
    options = parser.parse_args(arguments)
    if options.question is not None and options.questions is not None:
        parser.error("give a question or --questions, not both")
    if options.context is None and options.questions is None:
        parser.error("--context PATH is needed, but for questions that bring their own (--questions)")
    if options.top < 0:
        parser.error(f"--top {options.top}: give a number of at least 1")
    return options


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that makes a `Reader`."""
    parser.add_argument("--decoding", metavar="NAME", help="a decoding of the run (default: its first)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all that this process may use)")


def _run(options: argparse.Namespace) -> None:
    contexts = {} if options.context is None else _contexts(Path(options.context))
    if options.question is not None and not options.question.strip():
        raise InputError("the question is empty")
    reader = Reader(options.model, options.decoding, options.threads)
    if options.questions is not None:
        asked = _json_lines(options.questions, contexts, options.context)
    elif options.question is not None:
        asked = _of_each(contexts, options.question)
    else:
        asked = _plain_lines(sys.stdin, contexts)
    at_once = 1 if options.questions in (None, "-") and sys.stdin.isatty() else AT_ONCE
    as_lines = options.json or options.questions is not None or "" not in contexts
    asked, again = tee(asked)
    for answer, question in zip(reader.answers(asked, at_once, options.top), again, strict=False):
        if as_lines:
            text = json.dumps(as_json(answer, question.document), ensure_ascii=False)
        else:
            text = as_text(question, answer, several=options.question is None)
        print(text, flush=at_once == 1)


def as_json(answer: Answer, document: str = "") -> dict[str, Any]:
    """An answer as a line of JSON has it: that of `Answer`, its text under `answer` ("" where there is none).

    `document` and `candidates` are left out where there are none.
    """
    values = asdict(answer)
    candidates = [{"answer": each.pop("text"), **each} for each in values.pop("candidates")]
    named = {"document": document} if document else {}
    line = {"id": values.pop("id"), **named, "answer": values.pop("text"), **values}
    return line | ({"candidates": candidates} if candidates else {})


def as_text(question: Question, answer: Answer, several: bool = False) -> str:
    """An answer for people: text, place and probability, and where it stands; the question first, if one of several.

    Its candidates follow, a line each.
    """
    lines = [f"{printable(question.question.strip())}"] if several else []
    if answer:
        lines.append(printable(answer.text))
        lines.append(f"  {_place(answer)} ({answer.null_probability:.2f} that there is none)")
        before = question.context[max(0, answer.start - AROUND) : answer.start]
        after = question.context[answer.end : answer.end + AROUND]
        first = "… " if answer.start > AROUND else ""
        last = " …" if answer.end + AROUND < len(question.context) else ""
        lines.append(f"  {first}{printable(before)}[{printable(answer.text)}]{printable(after)}{last}")
    else:
        lines.append(f"no answer (probability {answer.null_probability:.2f} that there is none)")
    for rank, candidate in enumerate(answer.candidates, 1):
        lines.append(f"  {rank}. {printable(candidate.text)} ({_place(candidate)})")
    return "\n".join(line.rstrip() for line in lines)


def _place(found: Answer | Candidate) -> str:
    return f"characters {found.start:,} to {found.end:,}, probability {found.probability:.2f}"


def _contexts(path: Path) -> dict[str, str]:
    """The texts of a folder's `.txt` files by their names within it, in that order; of a file its text by ""."""
    if not path.is_dir():
        return {"": _text_of(path)}
    found = {str(file.relative_to(path)): _text_of(file) for file in sorted(path.rglob("*.txt"))}
    if not found:
        raise InputError(f"{path}: no .txt files in there")
    return found


@lru_cache(64)
def _text_of(path: Path) -> str:
    """A file's text as it is: offsets count its characters, carriage returns included, a byte order mark left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except PermissionError:
        raise InputError(f"{path}: it may not be read; check who owns it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not text.strip():
        raise InputError(f"{path}: it is empty, so there is no answer to look for")
    return text


def _of_each(contexts: dict[str, str], question: str, identity: str = "") -> Iterator[Question]:
    """A question about each of the contexts."""
    return (Question(question, context, identity, document) for document, context in contexts.items())


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


def _plain_lines(stream: TextIO, contexts: dict[str, str]) -> Iterator[Question]:
    number = 0
    for number, line in _lines(stream, "standard input"):
        yield from _of_each(contexts, line.strip(), str(number))
    if not number:
        raise InputError("standard input holds no question; give one as the last argument")


def _json_lines(file: str, contexts: dict[str, str], folder: str | None) -> Iterator[Question]:
    """The questions of a file of JSON lines, each about its `context`, its `document`, or else each of `contexts`.

    A `document` is a path from `folder`, if that is one, or from the file's own folder.
    """
    stream, name = (sys.stdin, "standard input") if file == "-" else (_opened(Path(file)), file)
    documents = Path(folder) if folder and "" not in contexts else Path(file).parent
    number = 0
    for number, line in _lines(stream, name):
        where = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not JSON ({error.msg}); each line is one question") from None
        if not isinstance(value, dict):
            raise InputError(f"{where}: not an object with `question` and `context` or `document`")
        for key in ("question", "context", "document"):
            text = value.get(key, None if key == "question" else "-")
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{where}: its `{key}` is missing, empty or no text")
        document, identity = value.get("document", ""), str(value.get("id", number))
        if "context" in value:
            own = {document: value["context"]}
        elif document:
            own = {document: _text_of(documents / document)}
        else:
            own = contexts
        if not own:
            raise InputError(f"{where}: its `context` or `document` is missing, and there is no --context")
        yield from _of_each(own, value["question"], identity)
    if not number:
        raise InputError(f"{name}: no questions in there")
