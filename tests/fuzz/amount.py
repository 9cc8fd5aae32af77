"""How much is drawn: a little, and the same, in `make test`; as much as SVERTKA_FUZZ says, anew, in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("SVERTKA_FUZZ", "0"))


def drawn(few: int, share: float = 1.0) -> settings:
    """Settings for a test of `few` examples, or of its share of what `make fuzz` draws."""
    return settings(
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        max_examples=max(few, int(EXAMPLES * share)) if EXAMPLES else few,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        print_blob=True,
    )
