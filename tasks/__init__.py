"""The stages and what they do their work with: pure functions in the folders, Prefect's part beside them."""

import storage  # noqa: F401 (before Arrow, see there)
