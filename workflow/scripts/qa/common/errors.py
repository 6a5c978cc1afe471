"""The exception for mistakes that a user can put right, and the meaning of the machine's own errors."""

import errno
from collections.abc import Iterable, Mapping
from typing import Any

from qa.common.text import printable


class InputError(ValueError):
    """A mistake of the user's, or a lack of the machine's, in one message: what is wrong, where, and what to do.

    The stages print it without a traceback and exit non-zero. Any other exception is a bug and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its class name without one. Unprintable letters become `?`."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0], "?")


SHORTAGES = (  # error numbers of the system, words of libraries without a number, and the message
    (
        {errno.ENOSPC, errno.EDQUOT},
        ("No space left", "Disk quota exceeded", "PytorchStreamWriter failed writing", "unexpected pos"),
        "No space left on device, or quota full: make room and give the same command again",
    ),
    (
        {errno.EROFS},
        ("Read-only file system",),
        "Read-only file system: mount it for writing, or work in a folder that can be written to",
    ),
    (
        {errno.EMFILE, errno.ENFILE},
        ("Too many open files",),
        "Too many open files: raise the limit (ulimit -n 4096) and give the same command again",
    ),
    (
        {errno.ENOMEM},
        ("annot allocate memory", "can't allocate memory", "bad_alloc"),
        "Cannot allocate memory: ask for more (mem_mb), or run fewer jobs at once",
    ),
    (
        {errno.EIO, errno.ESTALE},
        ("Input/output error", "Stale file handle"),
        "Input/output error: the disk, or the network to it, fails: give the same command again, elsewhere if it lasts",
    ),
)


def shortage(error: BaseException) -> str | None:
    """What the machine lacks, in one sentence, by an exception or one of its causes; None where it lacks nothing.

    Room on the disk, permission to write there, file handles, memory, or a disk that answers.
    """
    cause: BaseException | None = error
    while cause is not None:
        number = errno.ENOMEM if isinstance(cause, MemoryError) else getattr(cause, "errno", None)
        for numbers, words, message in SHORTAGES:
            if number in numbers or any(word in str(cause) for word in words):
                return f"{message} ({first_line(cause)})"
        cause = cause.__cause__ or cause.__context__
    return None


def broken(path, what: str, error: BaseException) -> BaseException:
    """The InputError for a file of the workflow that cannot be read; the error itself where the machine failed."""
    if shortage(error):
        return error
    return InputError(
        f"{path}: {what} cannot be read ({first_line(error)}); to have it made anew: rm -r {path} and run again"
    )


def some(items, limit: int = 5) -> str:
    """Join the first `limit` items for a message, with the number of the others."""
    items = list(items)
    shown = ", ".join(map(str, items[:limit]))
    return f"{shown} and {len(items) - limit:,} more" if len(items) > limit else shown


def unencodable(text: str) -> str:
    """The end of a message on a text that UTF-8 cannot hold; "" for any other text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no character"
    return ""


class Interrupted(Exception):  # noqa: N818, it is not an error
    """Work that stopped itself and can go on: before the end of the walltime, or after a signal.

    The stages print it without a traceback and exit non-zero, so that the job is submitted again.
    """


def check_ids(questions: Mapping[str, Any], ids: Iterable[str], name: str) -> None:
    """Raise InputError unless `ids` are exactly the ids of `questions`; the message names `name` and some ids."""
    ids = dict.fromkeys(ids)
    if missing := [key for key in questions if key not in ids]:
        count = f"{len(missing):,} of {len(questions):,} questions"
        raise InputError(f"{name}: nothing for {count} ({some(missing)}); give each question an entry")
    if unknown := [key for key in ids if key not in questions]:
        count = f"{len(unknown):,} ids that the data does not hold"
        raise InputError(f"{name}: {count} ({some(unknown)}); remove them, or score against their own data")
