"""The one exception for what a user can put right."""


class InputError(ValueError):
    """Something the user gave, or the machine lacks, in one message: what is wrong, where, and what to do.

    The stages print it without a traceback and exit non-zero. A bug raises anything else, and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def some(items, limit: int = 5) -> str:
    """Join the first `limit` of `items` (a sized collection) for a message, and say how many more there are."""
    items = list(items)
    shown = ", ".join(map(str, items[:limit]))
    return f"{shown} and {len(items) - limit:,} more" if len(items) > limit else shown


class Interrupted(Exception):  # noqa: N818, it is no error
    """Work that stopped itself, and can go on: before the job's walltime, or because it was told to.

    The stages print it without a traceback and exit non-zero, so that the job is submitted again.
    """
