"""Injuries to bytes, as broken disks, cut transfers and spiteful authors do them."""

import random

SPITEFUL = (
    b"\xed\xa0\x80\xed\xbf\xbf",  # lone surrogates, as some encoders write them
    b"&#xD800;&#0;&#x110000;&#x85;",
    b"\x00\xff\xfe\x00\x00",
    b"\xef\xbb\xbf\xff\xfe",
    b"<!--" * 40,
    b"<script>",
    b"<title><textarea><plaintext>",
    b"<div><p><table><tr><td><svg><math>" * 60,
    b"<![CDATA[" * 20,
    b"<a b='" + b"<" * 200,
    b"\x1b$B\x1b(J\x0e\x0f",  # shifts of ISO 2022
    "\u202e\u200d\ufdd0\U000e0001\U0001fffe".encode(),
    ("e" + "\u0301" * 3000).encode(),
    b"x" * 100_000,
    b"\r\n\r\n",
    b"WARC/1.1\r\n",
)


def bytes_injured(data: bytes, chance: random.Random) -> bytes:
    """Bytes replaced, taken out, doubled or zeroed somewhere, or the end cut off."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        place, size = chance.randrange(len(out) + 1), chance.choice([1, 2, 16, 300, 5000])
        match chance.randrange(6):
            case 0:
                out[place : place + size] = chance.randbytes(min(size, len(out) - place))
            case 1:
                del out[place : place + size]
            case 2:
                out[place:place] = out[place : place + size]
            case 3:
                out[place:place] = bytes(size)
            case 4:
                out[place:place] = chance.choice(SPITEFUL)
            case _:
                del out[max(place, len(out) // 2) :]
    return bytes(out)
