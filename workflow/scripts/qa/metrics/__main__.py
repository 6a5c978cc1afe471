"""`python -m qa.metrics DATA PREDICTIONS`: the command `qa score`."""

import sys
from importlib import import_module

sys.exit(import_module("qa.evaluation.score_files").main())  # by name: metrics import no package above them
