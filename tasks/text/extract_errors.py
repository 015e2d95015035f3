"""Why a page gives no text: a named reason, to be counted, and a sentence."""

from __future__ import annotations


class ExtractionError(Exception):
    """A page that cannot be read as a web page.

    Reasons: ``empty``, ``too_large``, ``too_deep``, ``not_html`` (a PDF, an image, JSON... served as HTML),
    ``binary`` (no text in any charset), ``parser`` (the parser gave up).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
