"""What is kept of the extracted text: language, rules, masking, user-given files."""

from __future__ import annotations

import math
import re
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.settings import StageConfig
from tasks.text.files_config import FilesConfig
from tasks.text.language_codes import code_of
from tasks.text.rules_config import BY_LANGUAGE, C4Config, FineWebConfig, GopherConfig, RepetitionConfig
from tasks.text.rules_config import limits as rule_limits


class LanguageConfig(StageConfig):
    """Which languages are kept."""

    keep: tuple[str, ...] = Field(
        (),
        title="Languages",
        description="ISO 639-1 codes (zh, en, …) of the languages that are kept; none keeps every language.",
    )
    min_share: float = Field(
        0.65,
        title="Least share",
        description="Share of a document's text that must be in the kept languages taken together, 0 to 1 "
        "(FineWeb: 0.65).",
        ge=0,
        le=1,
    )
    addresses: Literal["ignore", "refuse"] = Field(
        "refuse",
        title="Languages in addresses",
        description="refuse: drop a page whose address names a language and region that is not kept, such as "
        "/fr-FR/: an untranslated page of a French site is a copy of another page. Without effect where "
        "every language is kept.",
    )
    stated: Literal["ignore", "weigh", "refuse"] = Field(
        "weigh",
        title="Stated languages",
        description="What a page's own statement (lang attributes and their like) of a language that is not "
        "kept does. weigh: takes a fifth off the share of kept languages, so that mixed pages go and pages "
        "that are wholly in a kept language stay. refuse: drops the page. ignore: nothing.",
    )
    foreign_lines: Literal["keep", "remove"] = Field(
        "remove",
        title="Lines in other languages",
        description="remove: in a document that is kept, take out the lines that are clearly in a language "
        "that is not; without effect where every language is kept.",
    )
    method: Literal["cld2", "langid", "fasttext"] = Field(
        "cld2",
        title="Method",
        description="cld2: fastest, sees several languages in one document. langid: pure Python, where cld2 "
        "is not installed. fasttext: the model file below.",
    )
    fasttext_model: FilesConfig = Field(
        FilesConfig(),
        title="fastText model",
        description="A language identification model in fastText's .bin or .ftz format (lid.176, say); only "
        "the first file is read.",
    )

    @field_validator("keep")
    @classmethod
    def _codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            _check_code(code)
        return codes

    @model_validator(mode="after")
    def _has_its_model(self) -> Self:
        if self.method == "fasttext" and not self.fasttext_model.paths:
            raise ValueError("method fasttext needs a model: name it in language.fasttext_model.paths")
        return self


def _check_code(code: str) -> None:
    meant = _COUNTRIES.get(code.lower(), code_of(code))
    if meant != code or not re.fullmatch("[a-z]{2,3}", code):
        known = meant if re.fullmatch("[a-z]{2}", meant) else "zh, en, fr, …"
        raise ValueError(f"{code!r} is no ISO 639-1 code of a language; write {known}")


_COUNTRIES = {"cn": "zh", "jp": "ja"}
"""What is written for a language though it is none, with the code that is meant."""


class UrlConfig(StageConfig):
    """Which addresses are refused before their text is looked at."""

    blocked_domains: tuple[str, ...] = Field(
        (),
        title="Blocked domains",
        description="Domains whose pages, and their subdomains' pages, are dropped.",
    )
    blocked_domain_files: FilesConfig = Field(
        FilesConfig(),
        title="Blocked domain files",
        description="Text files (.txt or .gz) with one domain a line; lines that begin with # are skipped.",
    )
    blocked_words: tuple[str, ...] = Field(
        ("porn", "xxx", "hentai", "camgirl", "camgirls", "escorts", "milf", "nudes", "sexcam", "sexcams"),
        title="Blocked words",
        description="A page is dropped where one of these stands as a whole word in its address; words of "
        "letters a to z and digits.",
    )

    @field_validator("blocked_domains")
    @classmethod
    def _hosts(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            if not domain.strip(" .") or re.search(r"[\s/:*?#@]", domain.strip()):
                raise ValueError(f"{domain!r} is no domain; write the name alone, such as example.org")
        return domains

    @field_validator("blocked_words")
    @classmethod
    def _words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if not re.fullmatch("[a-z0-9]+", word.lower()):
                raise ValueError(f"{word!r} is no word that addresses have: letters a to z and digits alone")
        return words


class LinesConfig(StageConfig):
    """Lines that are taken out of a page (C4, Raffel et al. 2020). 0 and false switch a rule off."""

    enabled: bool = Field(True, title="Remove lines", description="Apply the rules below.")
    javascript: bool = Field(
        True,
        title="JavaScript notices",
        description="Remove short lines that ask for JavaScript; C4 removes every line with the word, which "
        "costs pages about it their text.",
    )
    policy: bool = Field(
        True,
        title="Policy notices",
        description="Remove lines of at most 200 characters that speak of terms of use, privacy policy or "
        "cookies (C4: any length).",
    )
    citations: bool = Field(
        True,
        title="Citation marks",
        description="Remove Wikipedia's marks [1], [edit] and [citation needed]; the line stays.",
    )
    terminal_punctuation: bool = Field(
        False,
        title="Terminal punctuation",
        description="Remove lines that do not end as a sentence does. On in C4; off in FineWeb, which found "
        "that it costs 30 % of the tokens.",
    )
    min_words_per_line: int = Field(
        3,
        title="Least words in a line",
        description="Remove shorter lines, 0 to 100 (C4 and FineWeb: 3). Takes short headings and lines of "
        "code away: set 0 for documentation.",
        ge=0,
        le=100,
    )
    max_word_length: int = Field(
        1000,
        title="Longest word",
        description="Remove lines with a longer run of characters without a space (data, not text), 0 to "
        "1,000,000; scripts without spaces are exempt.",
        ge=0,
        le=1_000_000,
    )


class PiiConfig(StageConfig):
    """Personal data that is masked by typed placeholders such as <EMAIL>."""

    enabled: bool = Field(True, title="Mask personal data", description="Apply the rules below.")
    email: bool = Field(True, title="Email", description="Mask as <EMAIL>.")
    ip: bool = Field(
        True,
        title="IP addresses",
        description="Mask public IPv4 and IPv6 addresses as <IP_ADDRESS>; private and documentation ranges "
        "stay.",
    )
    phone: bool = Field(
        True,
        title="Phone numbers",
        description="Mask international (+…), North American, and Chinese mobile and landline numbers as "
        "<PHONE>.",
    )
    id_number: bool = Field(
        True,
        title="Resident id numbers",
        description="Mask Chinese resident id numbers whose date and checksum hold as <ID_NUMBER>.",
    )
    bank_card: bool = Field(
        True,
        title="Bank cards",
        description="Mask card numbers with an issuer's prefix and length whose Luhn checksum holds as "
        "<BANK_CARD>.",
    )
    secret: bool = Field(
        True,
        title="Keys and tokens",
        description="Mask private keys and the tokens of well-known services as <SECRET>.",
    )


class ScoreConfig(StageConfig):
    """A classifier of documents that the user gives; its score goes into the signal ``model_score``."""

    model: FilesConfig = Field(
        FilesConfig(),
        title="Model",
        description="A linear model that `modelmill train-classifier` made (.safetensors), or a fastText "
        "classifier (.bin, .ftz); only the first file is read.",
    )
    label: str = Field(
        "",
        title="Label",
        description="The fastText label whose probability is the score; empty takes the model's first. 0 to "
        "100 characters.",
        max_length=100,
    )
    min_score: float = Field(
        0.0,
        title="Least score",
        description="Documents with a lower score are dropped, 0 to 1; 0 keeps all and only measures.",
        ge=0,
        le=1,
    )


class CleanParallel(StageConfig):
    """How much of the machine the stage takes; nothing here changes what comes out."""

    workers: int = Field(
        0,
        title="Processes",
        description="Processes that clean, 1 to 256; 0 takes as many as there are processors. Parts that run "
        "beside each other share them.",
        ge=0,
        le=256,
    )
    document_seconds: float = Field(
        30.0,
        title="Longest document",
        description="Processor seconds after which a document counts as one that hangs, 1 to 3,600.",
        ge=1,
        le=3600,
    )


class CleanConfig(StageConfig):
    """Which documents and lines are kept, and what of them is masked."""

    language: LanguageConfig = Field(LanguageConfig(), title="Language", description="Languages kept.")
    url: UrlConfig = Field(UrlConfig(), title="Addresses", description="Addresses refused.")
    lines: LinesConfig = Field(LinesConfig(), title="Lines", description="Lines taken out of pages.")
    repetition: RepetitionConfig = Field(
        RepetitionConfig(), title="Gopher repetition", description="Pages that repeat themselves."
    )
    gopher: GopherConfig = Field(
        GopherConfig(), title="Gopher quality", description="Pages that are no running text."
    )
    c4: C4Config = Field(C4Config(), title="C4", description="Pages of placeholder text or code.")
    fineweb: FineWebConfig = Field(FineWebConfig(), title="FineWeb", description="Pages of fragments.")
    limits_by_language: Literal["fineweb2", "none"] = Field(
        "fineweb2",
        title="Limits by language",
        description="fineweb2: what FineWeb2 found for Chinese, Japanese and Thai, in place of the defaults "
        "above; one that is changed holds for them too. none: the limits above hold for every language.",
    )
    own_limits: tuple[str, ...] = Field(
        (),
        title="Own limits by language",
        description="Limits that hold for single languages instead, each as 'zh gopher.min_words=30': the "
        "language, the rule as rejects name it, the limit.",
    )
    score: ScoreConfig = Field(ScoreConfig(), title="Model score", description="A classifier of yours.")
    decontaminate: FilesConfig = Field(
        FilesConfig(),
        title="Decontaminate",
        description="Evaluation files (.jsonl, .txt); documents that contain one of their records' 13-word "
        "runs are dropped, naming the record.",
    )
    pii: PiiConfig = Field(PiiConfig(), title="Personal data", description="What is masked.")
    max_failed_share: float = Field(
        0.02,
        title="Most failures",
        description="Share of a part's documents on which a worker may crash or hang before the part fails, "
        "0 to 1.",
        ge=0,
        le=1,
    )
    parallel: CleanParallel = Field(
        CleanParallel(),
        title="Parallel work",
        description="How much of the machine is used.",
        json_schema_extra={"affects_result": False},
    )

    @field_validator("own_limits")
    @classmethod
    def _known_rules(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            _limit_of(line)
        return lines

    @cached_property
    def by_language(self) -> dict[str, dict[str, float]]:
        """Limits by rule by language, where they are not those of every language.

        What was found for a language stands for a default: a limit of the user's own, or a rule that is
        switched off, is meant for every language.
        """
        table = BY_LANGUAGE if self.limits_by_language == "fineweb2" else {}
        usual = {rule for rule, limit in rule_limits().items() if self._general(rule) == limit}
        found = {
            language: {rule: limit for rule, limit in limits.items() if rule in usual}
            for language, limits in table.items()
        }
        for language, rule, limit in map(_limit_of, self.own_limits):
            found.setdefault(language, {})[rule] = limit
        return found

    def _general(self, rule: str) -> float:
        section, name = rule.split(".")
        return float(getattr(getattr(self, section), name))


def _limit_of(line: str) -> tuple[str, str, float]:
    """Language, rule and limit of a line such as ``zh gopher.min_words=30``; raises ValueError."""
    language, _, rest = line.strip().partition(" ")
    rule, _, value = rest.strip().partition("=")
    known = rule_limits()
    _check_code(language)
    if rule.strip() not in known:
        raise ValueError(f"{line!r}: there is no rule {rule.strip()!r}; there are {', '.join(known)}")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ValueError(f"{line!r}: {value!r} is no number; write it as 'zh gopher.min_words=30'")
    return language, rule.strip(), limit
