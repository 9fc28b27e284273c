"""Hypothesis profiles: `default` for every run, `soak` (HYPOTHESIS_PROFILE=soak) for long campaigns.

In CI the examples are the same each time, so that what fails there was changed, and can be looked at.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "default", deadline=None, max_examples=100, stateful_step_count=40, derandomize="CI" in os.environ
)
settings.register_profile(
    "soak", deadline=None, max_examples=5_000, stateful_step_count=80, suppress_health_check=_SLOW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
