"""What the terminal shows: no reasons of thousands of letters, and no errors of jobs that Ctrl-C has stopped.

Snakemake's own log keeps all of it.
"""

import logging
import signal
import sys

from snakemake.logging import ColorizingTextHandler
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

ERRORS = (LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)


class CtrlC:
    """Handler of SIGINT, and filter of Snakemake's terminal: `pressed` says whether Ctrl-C has ended the run.

    The terminal sends each Ctrl-C to the jobs too. The first one lets them save, and Snakemake waits for them. The
    second one ends them, so Snakemake ignores it. The third one ends Snakemake.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self, number, frame):
        """Handle SIGINT."""
        if self.pressed:
            signal.signal(number, signal.SIG_DFL)
            return
        self.pressed = True
        raise KeyboardInterrupt

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what Snakemake says of jobs that fail because of Ctrl-C."""
        return not (self.pressed and vars(record).get("event") in ERRORS)

    def excepthook(self, kind, error, trace):
        """Print a line instead of a traceback where Ctrl-C comes before the first job."""
        if kind is KeyboardInterrupt:
            print("Stopped by Ctrl-C.", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)


def prepare(logger) -> CtrlC:
    """Handle Ctrl-C from now on."""
    ctrl_c = CtrlC()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background, where it is ignored
        signal.signal(signal.SIGINT, ctrl_c)
        sys.excepthook = ctrl_c.excepthook
    for handler in _terminals(logger):
        handler.addFilter(ctrl_c)
    return ctrl_c


def before_jobs(logger):
    """Leave the reasons of jobs to the log. For `onstart`: a dry run, which has no log, shows them."""
    for handler in _terminals(logger):
        handler.formatter.quiet = {*handler.formatter.quiet, Quietness.REASON}


def _terminals(logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if isinstance(handler, ColorizingTextHandler)]
