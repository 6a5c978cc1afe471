"""The one exception for what a user can put right, and what the machine's own errors mean."""

import errno


class InputError(ValueError):
    """Something the user gave, or the machine lacks, in one message: what is wrong, where, and what to do.

    The stages print it without a traceback and exit non-zero. A bug raises anything else, and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name where it says nothing; what cannot be printed as `?`."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


SHORTAGES = (  # numbers of the system's errors, what libraries say instead, what it means and what helps
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
    """What an exception, or one behind it, tells that the machine lacks, in one sentence; None where it tells no such.

    Room on the disk, the right to write there, file handles, memory, or a disk that answers.
    """
    behind: BaseException | None = error
    while behind is not None:
        number = errno.ENOMEM if isinstance(behind, MemoryError) else getattr(behind, "errno", None)
        for numbers, words, meaning in SHORTAGES:
            if number in numbers or any(word in str(behind) for word in words):
                return f"{meaning} ({first_line(behind)})"
        behind = behind.__cause__ or behind.__context__
    return None


def broken(path, what: str, error: BaseException) -> BaseException:
    """The InputError for a file made by the workflow that cannot be read; the error itself where the machine failed."""
    if shortage(error):
        return error
    return InputError(
        f"{path}: {what} cannot be read ({first_line(error)}); to have it made anew: rm -r {path} and run again"
    )


def some(items, limit: int = 5) -> str:
    """Join the first `limit` of `items` (a sized collection) for a message, and say how many more there are."""
    items = list(items)
    shown = ", ".join(map(str, items[:limit]))
    return f"{shown} and {len(items) - limit:,} more" if len(items) > limit else shown


class Interrupted(Exception):  # noqa: N818, it is no error
    """Work that stopped itself, and can go on: before the job's walltime, or because it was told to.

    The stages print it without a traceback and exit non-zero, so that the job is submitted again.
    """
