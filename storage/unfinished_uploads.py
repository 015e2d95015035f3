"""Uploads in parts that were begun and never completed: no listing of objects shows them, every bill does.

S3 alone has them, and obstore no call for them; boto3 has, where it is installed (the extra ``cluster``). A
bucket's own lifecycle rule (AbortIncompleteMultipartUpload) ends them as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Unfinished:
    """One upload in parts: its object's path below the store's address, and what has come since when."""

    path: str
    begun: datetime
    bytes: int
    abort: Callable[[], object]
    """Has S3 drop the parts."""


def unfinished_uploads(uri: str, prefix: str = "") -> Iterator[Unfinished]:
    """The uploads under a prefix of ``s3://bucket/…``; none elsewhere, or where boto3 is not installed."""
    place = urlsplit(uri)
    if place.scheme != "s3" or (client := _client()) is None:
        return
    root = f"{place.path.strip('/')}/".lstrip("/")
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=place.netloc, Prefix=f"{root}{prefix}"
    )
    for upload in (upload for page in pages for upload in page.get("Uploads", [])):
        name = {"Bucket": place.netloc, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        parts = client.get_paginator("list_parts").paginate(**name)
        size = sum(part["Size"] for page in parts for part in page.get("Parts", []))
        abort = partial(client.abort_multipart_upload, **name)
        yield Unfinished(upload["Key"].removeprefix(root), upload["Initiated"], size, abort)


def _client() -> Any:
    """boto3's client of the server that obstore asks: both take the rest from the environment."""
    try:
        import boto3
    except ModuleNotFoundError:
        return None
    return boto3.client("s3", region_name=os.environ.get("AWS_REGION"))
