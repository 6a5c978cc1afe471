"""What Snakemake prints into the terminal: one cause for each failure, short reasons, and little after Ctrl-C.

Snakemake's own log keeps all of it. A dry run has no log: it shows reasons, with the first files of each.
"""

import re
import signal
import sys
import threading

from snakemake.logging import ColorizingTextHandler, DefaultFormatter, timestamp
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from qa.common.errors import some

ERRORS = (LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)
# what is wrong in a file of rules, between the places there; a traceback of Python's stays whole
OF_RULES = re.compile(r'WorkflowError in file ".*", line \d+:\n(.*?)(\n  File ".*", line \d+, in .*)*', re.S)
SAID_ELSEWHERE = (  # by the stage's own line and by the closing summary
    re.compile(r"RuleException:\nCalledProcessError"),
    re.compile(r"WorkflowError:\nAt least one job did not complete successfully"),
)


class TerminalFormatter(DefaultFormatter):
    """Snakemake's formatter with less text. `stopped`: whether Ctrl-C has ended the run.

    `unrecorded()`: a warning where nothing is to be done, which a dry run has of Snakemake itself.
    """

    def __init__(self, known: DefaultFormatter, dry_run: bool) -> None:
        self.dry_run, self.unrecorded = dry_run, str
        super().__init__({*known.quiet, *([] if dry_run else [Quietness.REASON])}, known.show_failed_logs)
        self.stopped = False

    def format(self, record):
        """The text of a log record; the handler prints nothing for an empty one."""
        event = vars(record).get("event")
        if event in ERRORS and self.stopped:
            return ""
        text = super().format(record)
        if event == LogEvent.ERROR and any(pattern.match(text) for pattern in SAID_ELSEWHERE):
            return ""
        if not self.dry_run and text.startswith("Nothing to be done"):
            return "\n".join(filter(None, [text, self.unrecorded()]))
        return found[1] if (found := OF_RULES.fullmatch(text)) else text

    def format_job_info(self, msg):
        """A job that starts, with the first files of each part of its reason, `why: file, file, …; why: …`."""
        reason = "; ".join(some(part.split(", ")) for part in str(msg["reason"]).split("; "))
        return super().format_job_info({**msg, "reason": reason})

    def format_job_error(self, msg):
        """A job that failed: its rule, its logs, and what the executor says of it."""
        if self.show_failed_logs:
            return super().format_job_error(msg)
        text = f"{timestamp()}\nError in rule {msg['rule_name']}, log: {', '.join(msg['log']) or 'none'}"
        return "\n".join([text, *([f"    {msg['rule_msg']}"] if msg["rule_msg"] else [])])

    def on_interrupt(self, number, frame):
        """Handle Ctrl-C, which the terminal sends to the jobs too.

        The first one lets jobs save, and Snakemake waits for them. The second one ends the jobs, so Snakemake ignores
        it. The third one ends Snakemake.
        """
        if self.stopped:
            signal.signal(number, signal.SIG_DFL)
            return
        self.stopped = True
        raise KeyboardInterrupt


def prepare(logger) -> TerminalFormatter:
    """Let Snakemake's terminal have this formatter, and Ctrl-C this handler."""
    handlers = [handler for handler in logger.handlers if isinstance(handler, ColorizingTextHandler)]
    known = handlers[0].formatter if handlers else DefaultFormatter()
    formatter = TerminalFormatter(known, any(getattr(f, "dryrun", False) for h in handlers for f in h.filters))
    for handler in handlers:
        handler.setFormatter(formatter)
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # it is ignored in the background
    if usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, formatter.on_interrupt)
        sys.excepthook = _excepthook
    return formatter


def _excepthook(kind, error, trace):
    """Print a line instead of a traceback where Ctrl-C comes before the first job."""
    if kind is KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
