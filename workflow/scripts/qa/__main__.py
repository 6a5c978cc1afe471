"""`python -m qa`: the command `qa` where it is not installed."""

import sys

from qa.cli import main

sys.exit(main())
