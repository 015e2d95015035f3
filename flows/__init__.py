"""The stages chained into flows, and the ways to start them: command line, forms, schedules."""

import storage  # noqa: F401 (before Arrow, see there)
