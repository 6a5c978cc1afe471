"""`python -m qa.metrics DATA PREDICTIONS`: the official script's command."""

import sys

from qa.metrics.squad import main

sys.exit(main())
