"""Which languages a text is in, offline.

CLD2 (the library pycld2) by default: it reads some 60,000 paragraphs a second, says how much of a document
is in each of up to three languages, and was right for all Chinese and 98 % of eleven languages' paragraphs.
Where it cannot tell, or is not installed, py3langid answers: as accurate, pure Python, an eighth as fast.

A long document is identified from windows spread over it, so that the cost is bounded; what is found to be
in several languages is looked at line by line, by :mod:`tasks.text.language_lines`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from tasks.text.language_codes import UNKNOWN, code_of

Method = Literal["cld2", "langid", "fasttext"]
Shares = tuple[tuple[str, float], ...]
Identifier = Callable[[str], Shares]

WINDOWS, WINDOW = 6, 700
"""Windows, and characters in each, that a longer text is identified from."""
LEAST_KANA = 0.2
"""Share of kana among kana and Han from which a text is Japanese, whatever it was taken for: Chinese that
quotes Japanese has less, Japanese prose has half."""
LEAST_PARTICLES = 0.03
"""Share of Chinese's own most frequent characters among Han from which a text with less kana than that is
Chinese: Chinese prose has more than twice as many, Japanese hardly any."""

_PARTICLES = re.compile("[的了是这這们們吗嗎么麼没沒很]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")
HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)


class LanguageError(RuntimeError):
    """The chosen method cannot be used; the message says what to install or to name."""


def identify(text: str, method: Method = "cld2", model: Path | None = None) -> tuple[str, float]:
    """The main language of a text: its ISO 639-1 code (``und`` if unknown) and its share or probability.

    ``model`` is the file of method ``fasttext``. Raises LanguageError where the method cannot be used.
    """
    return shares(text, method, model)[0]


def shares(text: str, method: Method = "cld2", model: Path | None = None) -> Shares:
    """The languages of a text with their shares of it, largest first; at least one entry.

    CLD2 sees several languages in a text, langid one in each window, fastText gives probabilities. Raises
    LanguageError.
    """
    identifier = _identifier(method, model)
    return _by_windows(text) if identifier is _langid else _shares("\n".join(_windows(text)), identifier)


def share_in(found: Shares, kept: Collection[str]) -> float:
    """Share of the identified text that is in the kept languages, 0..1."""
    known = sum(share for code, share in found if code != UNKNOWN)
    return sum(share for code, share in found if code in kept) / known if known else 0.0


def _windows(text: str) -> list[str]:
    """The text, or pieces spread evenly over a long one."""
    if len(text) <= WINDOWS * WINDOW:
        return [text]
    step = (len(text) - WINDOW) / (WINDOWS - 1)
    return [text[int(i * step) : int(i * step) + WINDOW] for i in range(WINDOWS)]


def _by_windows(text: str) -> Shares:
    """Shares of windows that are in one language each, weighed by how probable it is."""
    pieces = [
        each[start : start + WINDOW] for each in _windows(text) for start in range(0, len(each), WINDOW)
    ]
    found = [(len(piece), *_langid(piece)[0]) for piece in pieces if any(map(str.isalpha, piece))]
    if not found:
        return ((UNKNOWN, 0.0),)
    total = sum(size for size, _, _ in found)
    shares: dict[str, float] = {}
    for size, code, probability in found:
        shares[code] = shares.get(code, 0.0) + size * probability / total
    return _largest_first(shares)


def mostly_kana(text: str) -> bool:
    """Whether a text is Japanese by its kana."""
    kana = len(_KANA.findall(text))
    return kana > 0 and kana >= LEAST_KANA * (kana + len(HAN.findall(text)))


def quotes_japanese(text: str) -> bool:
    """Whether a text is Chinese with Japanese names or phrases in it, which CLD2 takes for Japanese."""
    han = len(HAN.findall(text))
    return not mostly_kana(text) and 0 < LEAST_PARTICLES * han <= len(_PARTICLES.findall(text))


def _shares(text: str, identifier: Identifier) -> Shares:
    found = identifier(text)
    if found and found[0][0] != UNKNOWN:
        if found[0][0] == "zh" and mostly_kana(text):
            return _renamed(found, "zh", "ja")
        return _renamed(found, "ja", "zh") if found[0][0] == "ja" and quotes_japanese(text) else found
    if identifier is _cld2 and (guess := _short(text)):
        return guess
    if identifier is not _langid and (second := _langid(text)):
        return second
    return ((UNKNOWN, 0.0),)


def _short(text: str) -> Shares:
    """CLD2's guess at a text that is too short for it to be certain, where it stands by the guess.

    Asking it again costs microseconds; loading another identifier for a page of three words half a second.
    """
    guess = _cld2(text, best_effort=True)
    if guess and guess[0][0] == "ja" and not _KANA.search(text):
        return (("zh", guess[0][1]), *guess[1:])
    return guess


def _renamed(found: Shares, one: str, other: str) -> Shares:
    """The shares with one language's given to another."""
    shares: dict[str, float] = {}
    for code, share in found:
        name = other if code == one else code
        shares[name] = shares.get(name, 0.0) + share
    return _largest_first(shares)


def _largest_first(shares: dict[str, float]) -> Shares:
    return tuple(sorted(shares.items(), key=lambda item: -item[1]))


def line_identifier(method: Method) -> Identifier:
    """What tells a line's language; fastText's probabilities of single lines mislead."""
    return _identifier("cld2" if method == "fasttext" else method, None)


def _identifier(method: Method, model: Path | None) -> Identifier:
    if method == "fasttext":
        if model is None:
            raise LanguageError("method fasttext needs a model: name it in language.fasttext_model.paths")
        return _fasttext(str(model))
    return _cld2 if method == "cld2" and _pycld2() is not None else _langid


@cache
def _pycld2() -> Any:
    try:
        import pycld2
    except ImportError:
        return None
    return pycld2


def _cld2(text: str, best_effort: bool = False) -> Shares:
    """What CLD2 finds; with ``best_effort`` also in a text too short for it, but nothing it is unsure of."""
    library = _pycld2()
    try:
        found = library.detect(text, isPlainText=True, bestEffort=best_effort)
    except (library.error, UnicodeEncodeError):
        try:
            found = library.detect(_UNREADABLE.sub(" ", text), isPlainText=True, bestEffort=best_effort)
        except library.error:
            return ()
    if best_effort and not found[0]:
        return ()
    shares: dict[str, float] = {}
    for _, name, percent, _ in found[2]:
        if percent and (code := code_of(name)) not in (UNKNOWN, "xx"):
            shares[code] = shares.get(code, 0.0) + percent / 100
    return _largest_first(shares)


@cache
def _langid_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _langid(text: str) -> Shares:
    if not any(map(str.isalpha, text)):
        return ()
    code, probability = _langid_model().classify(text.encode("utf-8", "replace").decode("utf-8"))
    return ((code_of(code), float(probability)),)


def check_model(model: Path) -> None:
    """Raise ModelError where a file is no model of method ``fasttext``."""
    from tasks.text.fasttext_model import FastText

    FastText.check(model)


@lru_cache(maxsize=2)
def _fasttext(path: str) -> Identifier:
    from tasks.text.fasttext_model import FastText

    model = FastText.load(Path(path))

    def identifier(text: str) -> Shares:
        found: dict[str, float] = {}
        for label, share in model.predict(text.replace("\n", " "), 3):
            found[code_of(label)] = found.get(code_of(label), 0.0) + share
        return _largest_first(found)

    return identifier
