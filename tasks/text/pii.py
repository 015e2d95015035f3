"""Personal data and secrets in a text, masked by typed placeholders and counted by kind.

| kind | placeholder | what counts | what does not |
|---|---|---|---|
| email | <EMAIL> | name@host.tld | user@host, git@host:a/b, example.com, pkg@latest.js, q@k.to(device) |
| ip | <IP_ADDRESS> | public IPv4, IPv6 | private, loopback, documentation ranges; section 15.4.2.2 |
| phone | <PHONE> | +CC; (415) 555-2671; Chinese, Japanese forms; Tel: 020… | other bare digit runs, amounts |
| id_number | <ID_NUMBER> | 18-digit Chinese resident ids with a real date and the right checksum | |
| bank_card | <BANK_CARD> | 13 to 19 digits of a card issuer's prefix with the right Luhn digit | |
| secret | <SECRET> | private keys, JWTs, tokens of AWS, GitHub, Google, Slack, Stripe, … | hashes, UUIDs |

Judged by eye on all that it masked in 1,497 English web pages and 127 of a Chinese manual: of 150 phone
numbers none was something else, of 150 email addresses 4 (made-up names in code), of 14 IP addresses none.

Digits, letters and marks as wide as ideographs count as those of ASCII do. Numbers that stand side by side
are judged one by one.

The checks come after cheap look-ups (is there an @, a long digit run, a token's prefix), so that a page
without any such thing costs little. Longer numbers are judged first: a resident id is no phone number.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import cache

from tasks.text.config import PiiConfig
from tasks.text.pii_numbers import LABEL, is_bank_card, is_labelled_phone, is_phone, is_resident_id

EMAIL, IP, PHONE, ID_NUMBER, BANK_CARD, SECRET = (
    "email",
    "ip",
    "phone",
    "id_number",
    "bank_card",
    "secret",
)
PLACEHOLDERS = {
    EMAIL: "<EMAIL>",
    IP: "<IP_ADDRESS>",
    PHONE: "<PHONE>",
    ID_NUMBER: "<ID_NUMBER>",
    BANK_CARD: "<BANK_CARD>",
    SECRET: "<SECRET>",
}

_EMAIL = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}?[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9_@-]|\.(?![A-Z][a-z])[A-Za-z])"
)
"""A host ends before a capital letter, too: "jane@site.com.Write to her" lacks a space."""
_RESERVED_HOSTS = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net|edu)|target)$", re.IGNORECASE)
"""Those of documentation, and systemd's units of a name that a shop has, too."""
_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\.?\d|[A-Za-z_-])")
_IPV4_HINT = re.compile(r"\.\d{1,3}\.\d")
_IPV6_HINT = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(
    r"(?:[0-9A-Fa-f]{1,4}:){2,7}(?::|:?[0-9A-Fa-f]{1,4})(?:(?::[0-9A-Fa-f]{1,4}){0,6})(?![A-Za-z0-9_:])"
)
_VERSION_BEFORE = re.compile(
    r"(?:version|ver\.?|v|release|build|版本号?|第|section|§)[:：]?\s*$", re.IGNORECASE
)
_NUMBER = re.compile(r"\d[\d ()./\u2010-\u2013-]{5,30}[\dXx](?![A-Za-z0-9_%]|[.,]\d)")
_BEGINS, _DIGITS = r"(?<![\d.\u2010-\u2013-])", r"\d+(?:[.\u2010-\u2013-]\d+)*[Xx]?"
_SIDE_BY_SIDE = (
    re.compile(r"[^/ ](?:[^/]*[^/ ])?"),
    re.compile(rf"{_BEGINS}\d{{4}}(?: \d{{4}}){{3}}(?!\d)|(?:\(\+?\d{{1,4}}\) ?|{_BEGINS})\+?{_DIGITS}"),
    re.compile(rf"{_BEGINS}\+?{_DIGITS}"),
)
"""What several numbers on a line are cut into, until one is known: what strokes part; what blanks part, but
not a card's four groups, nor an area code in brackets from its number; what blanks and brackets part."""
SHORTEST_NUMBER, SHORTEST_LABELLED = 9, 7
"""Characters, at least, of a number that is somebody's, and of one that a label says to be a phone's."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN ([A-Z ]*PRIVATE KEY(?: BLOCK)?)-----(?:(?!-----BEGIN ).){1,20000}?-----END \1-----",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{40,251}|glpat-[A-Za-z0-9_-]{20,64}"
    r"|sk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,200}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,128}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,250}|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,400}"
    r"|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{40,250}|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"
    r"|LTAI[A-Za-z0-9]{12,24}|AKID[A-Za-z0-9]{32}"
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}"
    r")(?![A-Za-z0-9])"
)
_PHONE_CONTEXT = re.compile(
    r"[\u3400-\u9fff：]|tel|phone|mobile|cell|call|whatsapp|wechat|fax", re.IGNORECASE
)
_NO_PHONE_BEFORE = re.compile(
    r"(?:第|编号|編號|序列号|序號|订单号?|訂單|单号|單號|流水号|货号|型号|[学學工票群批案][号號]|时间戳"
    r"|(?<!微信)(?<!微信 )(?<![A-Za-z])u?id)[：:\s]*$",
    re.IGNORECASE,
)
_NO_PHONE_AFTER = "元圆圓万萬亿億股吨噸倍"
"""Of what a number before is an amount."""
_COUNTED = f"{_NO_PHONE_AFTER}台部户戶门門个個只次人名件年"
"""What phones and calls are counted by, too."""
_SCP_PATH = re.compile(r":(?!\d+/)[\w.~-]*/")
"""After a name and a host: the path of a remote repository or folder, as git and scp write it."""
_CALL = re.compile(r"\([\x21-\x7e]")
"""After a name: in code the call of a method, where @ multiplies matrices."""
_OLD_DOMAINS = re.compile(r"\.(?:com|net|org|edu|gov|mil|int|info|biz|(?!to$)[a-z]{2})$", re.IGNORECASE)
"""After these a bracket that touches is a slip of prose all the same; ``to`` is a method of every tensor."""
_CARD_FORM = re.compile(
    r"\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1(?:\d{1,7}|\d{4}\1\d{1,3})|\d{4}([ -])\d{6}\2\d{4,5}"
)
_WIDE = re.compile(rb"\xef\xbc(?:[\x90-\x99\xa0]|[\x88\x8b\x8d]\d)|\xc2\xa0\d")
"""In UTF-8: a wide digit, a wide @, or a wide mark or a space that does not break before a digit."""
_NARROW = {
    wide: wide - 0xFEE0
    for wide in range(0xFF01, 0xFF5F)
    if chr(wide).isalnum() or chr(wide) in "（）＋－．＠"
} | {0xA0: 0x20}
"""Not commas and colons: they end what stands before them."""
_HYPHENS = dict.fromkeys(range(0x2010, 0x2014), "-")
_GLOBAL_UNICAST = range(0x2000, 0x4000)
"""First groups of the IPv6 addresses that are given out."""
_TOKEN_HINTS = (
    *(b"AKIA", b"ASIA", b"AIza", b"LTAI", b"AKID", b"eyJ", b"SG."),
    *(b"sk-", b"xox", b"ya29.", b"pypi-", b"glpat-"),
)
_TOKEN_HINTS_WITH_UNDERSCORE = (
    *(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"k_live_", b"k_test_", b"hf_", b"npm_"),
)
"""Apart, because most texts have no underscore at all."""
SMALL = 32
"""Of four numbers that are all smaller, hardly any are an address: section 15.4.2.2, version 1.9.7.1. The few
that are (8.8.8.8, 1.1.1.1) are public services."""
CONTEXT = 30
"""Characters before an 11-digit number in which something must speak of phones or Chinese."""


Span = tuple[int, int, str]
"""Where something to mask begins and ends, and its kind."""


def mask(text: str, config: PiiConfig) -> tuple[str, dict[str, int]]:
    """Replace what the configuration names by placeholders; gives the text and how many of each kind."""
    counts: dict[str, int] = {}
    if not config.enabled:
        return text, counts
    # The same in narrow characters, each at its place: what is sought is found there and masked in both.
    wide = not text.isascii() and _WIDE.search(text.encode("utf-8", "replace"))
    seen = text.translate(_NARROW) if wide else text
    for wanted, find in (
        (config.secret, _secrets),
        (config.email, _emails),
        (config.ip, _addresses),
        (config.phone or config.id_number or config.bank_card, _numbers),
    ):
        spans = list(find(seen, config)) if wanted else []
        if spans:
            text = _masked(text, spans)
            seen = _masked(seen, spans) if wide else text
            for _, _, kind in spans:
                counts[kind] = counts.get(kind, 0) + 1
    return text, counts


def _masked(text: str, spans: list[Span]) -> str:
    pieces, done = [], 0
    for start, end, kind in spans:
        pieces += [text[done:start], PLACEHOLDERS[kind]]
        done = end
    return "".join([*pieces, text[done:]])


def _secrets(text: str, config: PiiConfig) -> Iterator[Span]:
    done = 0
    keys = list(_PRIVATE_KEY.finditer(text)) if "PRIVATE KEY" in text else []
    content = text.encode("utf-8", "replace")  # bytes are searched ten times as fast as wide strings
    hints = _TOKEN_HINTS + (_TOKEN_HINTS_WITH_UNDERSCORE if b"_" in content else ())
    if any(hint in content for hint in hints):
        keys += [found for found in _TOKEN.finditer(text) if _is_random(found[0])]
    for found in sorted(keys, key=re.Match.start):
        if found.start() >= done:  # a token within a private key is no other secret
            yield *found.span(), SECRET
            done = found.end()


def _is_random(token: str) -> bool:
    """Whether a token looks drawn, not written: digits and letters in it, and many different ones."""
    body = token.rpartition("_")[2] if token.startswith(("gh", "sk_", "rk_")) else token
    return (
        any(map(str.isdigit, body))
        and any(map(str.isalpha, body))
        and len(set(body)) >= min(10, len(body) // 2)
    )


def _emails(text: str, config: PiiConfig) -> Iterator[Span]:
    """Each @ is looked at from the name before it, so that text without one costs nothing."""
    done, at = 0, text.find("@")
    while at >= 0:
        start = at
        while start > max(done, at - 64) and (
            text[start - 1].isascii() and (text[start - 1].isalnum() or text[start - 1] in "_.+-")
        ):
            start -= 1
        while start < at and text[start] in ".+-":
            start += 1
        found = None if _in_path(text, start, done) else _EMAIL.match(text, start)
        if found and _is_email(found):
            done = found.end()
            yield start, done, EMAIL
        at = text.find("@", max(at + 1, done))


def _in_path(text: str, start: int, done: int) -> bool:
    """Whether a name goes on from an address or a path; a stroke may also part it from a word or an email."""
    before = text[start - 2 : start - 1]
    return text[start - 1 : start] == "/" and start - 1 > done and before.isascii() and not before.isspace()


def _is_email(found: re.Match[str]) -> bool:
    name, _, host = found[0].partition("@")
    if _RESERVED_HOSTS.search(host) or name.endswith(".") or ".." in name:
        return False
    if not _is_top_level(host.rpartition(".")[2].lower()):
        return False
    if _CALL.match(found.string, found.end()) and not _OLD_DOMAINS.search(host):
        return False
    return not _SCP_PATH.match(found.string, found.end())


@cache
def _is_top_level(label: str) -> bool:
    """Whether the root zone has a domain, by the Public Suffix List."""
    from tld import get_tld  # here: reading its list takes a tenth of a second, and few texts need it

    return get_tld(f"a.b.{label}", fail_silently=True, fix_protocol=True) is not None  # some have no a.LABEL


def _addresses(text: str, config: PiiConfig) -> Iterator[Span]:
    found = list(_IPV4.finditer(text)) if _IPV4_HINT.search(text) else []
    if _IPV6_HINT.search(text):
        found += _IPV6.finditer(text)
    done = 0
    for each in sorted(found, key=re.Match.start):
        if each.start() >= done and _is_public_ip(each):
            yield *each.span(), IP
            done = each.end()


def _is_public_ip(found: re.Match[str]) -> bool:
    # Of an IPv4 address "host:" and "http://" are no part; after a single stroke a version may stand.
    if _glued(found, "_.:-/" if ":" in found[0] else "_.-/") and not _follows(found, "//"):
        return False
    try:
        address = ipaddress.ip_address(found[0])
    except ValueError:
        return False
    if not address.is_global or address.is_multicast:
        return False
    if address.version == 6:
        return len(found[0]) >= 9 and int(found[0].partition(":")[0] or "0", 16) in _GLOBAL_UNICAST
    before = found.string[max(0, found.start() - 12) : found.start()]
    return max(address.packed) >= SMALL and not _VERSION_BEFORE.search(before)


def _follows(found: re.Match[str], mark: str) -> bool:
    return found.string[max(0, found.start() - len(mark)) : found.start()] == mark


def _glued(found: re.Match[str], marks: str) -> bool:
    """Whether the match goes on to the left: a letter, a digit or one of the marks stands before it."""
    before = found.string[found.start() - 1 : found.start()]
    return before != "" and (before in marks or (before.isascii() and before.isalnum()))


def _numbers(text: str, config: PiiConfig) -> Iterator[Span]:
    """Numbers with what belongs to them on the left: +44 …, (415) …."""
    done = 0
    for found in _NUMBER.finditer(text):
        start = found.start()
        while start > done and text[start - 1] in "+(":
            start -= 1
        before = text[start - 1 : start]
        if start < done or (
            before and (before in "_.,/=#$€£¥%&-" or (before.isascii() and before.isalnum()))
        ):
            continue
        if text[start] == "(" and ")" not in found[0]:
            start += 1
        for span in _side_by_side(text, start, found.end(), config):
            yield span
            done = span[1]


def _side_by_side(
    text: str, start: int, end: int, config: PiiConfig, cuts: tuple[re.Pattern[str], ...] = _SIDE_BY_SIDE
) -> Iterator[Span]:
    """A number or, where that is none of anybody's, those it is made of: 2024-01-05 13812345678."""
    if end - start < SHORTEST_NUMBER:
        if end - start >= SHORTEST_LABELLED and config.phone and _is_labelled(text, start, end):
            yield start, end, PHONE
        return
    if kind := _kind_of_number(text, start, end, config):
        yield start, end, kind
    elif cuts:
        for piece in cuts[0].finditer(text, start, end):
            yield from _side_by_side(text, *piece.span(), config, cuts[1:])


def _kind_of_number(text: str, start: int, end: int, config: PiiConfig) -> str:
    written = text[start:end].translate(_HYPHENS)
    compact = re.sub(r"[ -]", "", written)
    if len(compact) == 18 and config.id_number and is_resident_id(compact):
        return ID_NUMBER
    if (
        13 <= len(compact) <= 19
        and config.bank_card
        and _CARD_FORM.fullmatch(written)
        and is_bank_card(compact)
    ):
        return BANK_CARD
    if len(compact) <= 22 and config.phone and is_phone(written):
        bare = len(written) == 11 and written.isdigit()
        if not bare or _speaks_of_phones(text, start, end):
            return PHONE
    return PHONE if config.phone and _is_labelled(text, start, end) else ""


def _is_labelled(text: str, start: int, end: int) -> bool:
    after = text[end : end + 2].lstrip()[:1]
    if after and after in _COUNTED:  # phones, and no phone: 固定电话 1234567 户
        return False
    return is_labelled_phone(text[max(0, start - LABEL) : start], text[start:end].translate(_HYPHENS))


def _speaks_of_phones(text: str, start: int, end: int) -> bool:
    """Whether a run of 11 digits stands where a mobile number would, and is no amount or other number."""
    near = max(0, start - CONTEXT)
    if text[end : end + 1] in _NO_PHONE_AFTER and end < len(text):
        return False
    return _PHONE_CONTEXT.search(text, near, start) is not None and not _NO_PHONE_BEFORE.search(
        text[near:start]
    )
