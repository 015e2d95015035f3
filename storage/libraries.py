"""The versions of the libraries that shape what stages produce, for the manifests."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

RECORDED = (
    "modelmill", "datasets", "fastokens", "fastwarc", "mlflow", "numpy", "prefect", "pyarrow", "pycld2",
    "rensa", "resiliparse", "tokenizers", "torch", "trafilatura", "transformers",
)  # fmt: skip


@cache
def library_versions() -> dict[str, str]:
    """Name to version of each recorded library that is installed."""
    found = {}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
