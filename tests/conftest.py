"""For all tests: several workers share the cores, and more threads than cores would mostly wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is imported, in the tests' processes too
