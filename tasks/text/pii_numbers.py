"""Which numbers are somebody's: phones, resident ids and bank cards, told apart by form and checksum."""

from __future__ import annotations

import datetime
import re

CHINESE_MOBILE = re.compile(r"1[3-9]\d{9}")
"""Mobile numbers of mainland China: 11 digits, ranges 13 to 19."""
CHINESE_LANDLINE = re.compile(r"0(?:10|2[0-57-9]|[3-9]\d{2})[2-8]\d{6,7}")
"""Area code (010, 02x, or four digits) and a number of 7 or 8 digits that begins with 2 to 8."""
_MAINLAND_FORM = re.compile(r"(?:0?0?86[ -])?(?:\d{11}|\d{3}([ -])\d{4}\1\d{4})|0086\d{11}")
_LANDLINE_FORM = re.compile(r"(?:0\d{2,3}|\(0\d{2,3}\))[ -]?(?:\d{3,4}[ -]?\d{4})(?:-\d{1,5})?")
"""With or without the number of an extension."""
_EAST_ASIAN_FORM = re.compile(r"0\d{1,2}-\d{3,4}-\d{4}|0\d{3}-\d{2,3}-\d{4}|09\d{2}([ -])\d{3}\1\d{3}")
"""Numbers of Taiwan, Japan and Korea, with their trunk prefix: 02-2345-6789, 090-1234-5678, 0912-345-678."""
NORTH_AMERICAN = re.compile(r"1?[2-9]\d{2}[2-9]\d{6}")
COUNTRY_CODE = re.compile(
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|21\d|22\d|23\d|24\d|25\d|26\d|29\d|35\d|37\d|38\d|42\d|50\d|59\d|67\d|68\d|69\d|80\d|85\d|87\d|88\d|96\d|97\d|99\d)"
)
"""Country calling codes of ITU-T E.164."""
_CARD = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d{2}|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d{2}|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
"""Visa, Mastercard (both ranges), American Express, Diners Club, Discover, JCB, UnionPay."""
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_PROVINCE = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")


_LABEL = re.compile(
    r"(?:(?<![A-Za-z\u00c0-\u024f])(?:t[eé]l(?:ephone|éphone|efono|éfono|efone|efon|efoon|efax)?|phone|mobile?"
    r"|cell(?:phone|(?=\s?[.:：]))|handy|whatsapp|hotline|fax)(?: ?(?:no|nr|number|#)\b)?"
    r"|(?:电话|電話|手机|手機|座机|座機|热线|熱線|专线|專線|传真|傳真)(?:号码?|號碼?)?)"
    r"(?P<mark>(?:\s?[.:：]|\s?is\b){0,2})\s{0,3}[(（+]?$",
    re.IGNORECASE,
)
"""What says that the number after it is a phone's: Tel., Phone no:, 电话：."""
_LABELLED_FORM = re.compile(r"\d{7,15}|\(?\d{1,6}\)?(?:[ .-]?\(?\d{1,6}\)?){1,5}")
_DATE = re.compile(
    r"(?:19|20)\d{2}([-./ ]?)(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])|(?:\d{1,3}\.){3}\d{1,3}"
)
"""A day, or an address of four bytes."""
LABEL = 30
"""Characters before a number in which its label stands."""


def is_labelled_phone(before: str, written: str) -> bool:
    """Whether what stands right before a number says that it is a phone's, and it may be one.

    So there need be no separators, and its plan need not be known: 7 to 15 digits, 9 where the label ends in
    no mark, as a model's or a year's number may follow then.
    """
    label = _LABEL.search(before)
    if label is None or not _LABELLED_FORM.fullmatch(written) or _DATE.fullmatch(written):
        return False
    digits = sum(map(str.isdigit, written))
    marked = bool(label["mark"]) or not label[0].isascii()
    return (7 if marked else 9) <= digits <= (15 if written.isdigit() else 13)


def is_resident_id(number: str) -> bool:
    """A Chinese resident identity number (GB 11643-1999): province, birth date, ISO 7064 check digit."""
    if len(number) != 18 or not number[:17].isdigit() or not _PROVINCE.match(number):
        return False
    try:
        born = datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=False))
    return born.year >= 1900 and "10X98765432"[total % 11] == number[17].upper()


def is_bank_card(number: str) -> bool:
    """A payment card number: an issuer's prefix and length, and the Luhn digit (ISO/IEC 7812-1)."""
    return number.isdigit() and _CARD.fullmatch(number) is not None and luhn(number)


def luhn(number: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def is_phone(written: str) -> bool:
    """Whether a number, as it is written, is a phone number.

    International: a plus, a country code, 8 to 15 digits. North American, landlines and those of Taiwan,
    Japan and Korea: only with their separators, (415) 555-2671 or 010-6255 1234: a bare run of ten digits is
    more often something else. Chinese mobile numbers: 11 digits, alone or in groups of 3, 4 and 4.
    """
    digits = "".join(filter(str.isdigit, written))
    if written.startswith(("+", "(+")):
        return _is_international(digits) and _grouped(written)
    if CHINESE_MOBILE.fullmatch(digits[-11:]) and _MAINLAND_FORM.fullmatch(written):
        return True
    landline = _LANDLINE_FORM.fullmatch(written)
    if landline and written != digits and CHINESE_LANDLINE.match(digits):
        return True
    if _EAST_ASIAN_FORM.fullmatch(written):
        return 9 <= len(digits) <= 11
    if NORTH_AMERICAN.fullmatch(digits):
        return _NORTH_AMERICAN_FORM.fullmatch(written) is not None
    return False


def _is_international(digits: str) -> bool:
    """Whether digits after a plus are a country code and as many others as its plan of numbers has."""
    for code, lengths in _LENGTHS.items():
        if digits.startswith(code):
            return len(digits) in lengths
    return 8 <= len(digits) <= 15 and COUNTRY_CODE.match(digits) is not None


_LENGTHS = {"1": range(11, 12), "7": range(11, 12), "86": range(11, 14)}
"""Digits of whole numbers in plans that have one length for nearly all of them."""
_NORTH_AMERICAN_FORM = re.compile(
    r"(?:1[ .-])?(?:\(\d{3}\)[ .-]?|\d{3}([-.])|\d{3}( )(?=\d{3}-))\d{3}[-. ]\d{4}"
)


def _grouped(written: str) -> bool:
    """Whether the separators are those of a phone number: no two in a row but around brackets."""
    return re.search(r"[./-]{2}|[ ]{2}|\.\d{1,2}$", written) is None
