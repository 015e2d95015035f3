"""How text is taken out of pages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings import StageConfig

Mode = Literal["fast", "quality", "best"]


class ExtractConfig(StageConfig):
    """Main content out of HTML: how, and within which bounds."""

    mode: Mode = Field(
        "best",
        title="Mode",
        description="best: a classifier of the page's blocks. fast: what the page itself calls its content, "
        "else resiliparse's rules; four times as many pages a second. quality: trafilatura or either of "
        "these, whichever fits the page; slow.",
    )
    max_bytes: int = Field(
        16 * 2**20,
        title="Largest page",
        description="Bytes; a larger page is refused as too_large: 1,024 to 1 GiB.",
        ge=1024,
        le=2**30,
    )
    max_depth: int = Field(
        1000,
        title="Deepest nesting",
        description="Elements inside each other; a deeper page is refused as too_deep: 32 to 5,000. Real "
        "pages stay below 200; parsers need time that grows with the square of this.",
        ge=32,
        le=5000,
    )
