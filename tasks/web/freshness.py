"""When what was fetched earlier is still good."""

from __future__ import annotations

from datetime import datetime, timedelta


def is_fresh(created: datetime, max_age: timedelta, now: datetime) -> bool:
    """Whether something fetched at ``created`` may be taken at ``now``; at an age of ``max_age`` it may not.

    A fetch from the future (a clock that was set back) is not fresh.
    """
    return timedelta(0) <= now - created < max_age
