"""How many cases are tried: a few hundred as a rule, the same ones each time; with QA_FUZZ=many new ones, thousands."""

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]
settings.register_profile("few", max_examples=60, derandomize=True, deadline=None, suppress_health_check=SLOW)
settings.register_profile("many", max_examples=2500, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile(os.environ.get("QA_FUZZ", "few"))
