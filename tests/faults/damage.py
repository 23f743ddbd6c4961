"""Ways in which a file comes to harm: what disks, editors, transfers and adversaries do to bytes."""

from __future__ import annotations

import random
import re

_ODD = (
    b"", b"0", b"-1", b"1e999", b"NaN", b"Infinity", b"null", b"true", b"[]", b"{}", b'""', b"9" * 400,
    b"1" + b"0" * 30, b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 3000, b'"\\ud800"', b"../../etc/passwd",
    b"\n", b"\r\n", b"-0.0", b"1.5",
)  # fmt: skip


def damaged(content: bytes, how: random.Random) -> bytes:
    """The content with one to three kinds of harm done to it, never the very same bytes."""
    for _ in range(100):
        found = content
        for _ in range(how.choice((1, 1, 1, 2, 3))):
            found = how.choice(_KINDS)(found, how)
        if found != content:
            return found
    return content + b"\x00"


def _flip(content: bytes, how: random.Random) -> bytes:
    if not content:
        return b"\x01"
    found = bytearray(content)
    for _ in range(how.choice((1, 1, 2, 8))):
        found[how.randrange(len(found))] ^= 1 << how.randrange(8)
    return bytes(found)


def _cut(content: bytes, how: random.Random) -> bytes:
    return content[: how.randint(0, len(content))]


def _cut_front(content: bytes, how: random.Random) -> bytes:
    return content[how.randint(0, len(content)) :]


def _zeroed(content: bytes, how: random.Random) -> bytes:
    first = how.randint(0, len(content))
    last = min(len(content), first + how.choice((1, 16, 512)))
    return content[:first] + how.choice((b"\x00", b"\xff")) * (last - first) + content[last:]


def _doubled(content: bytes, how: random.Random) -> bytes:
    first, last = sorted((how.randint(0, len(content)), how.randint(0, len(content))))
    return content[:last] + content[first:]


def _inserted(content: bytes, how: random.Random) -> bytes:
    place = how.randint(0, len(content))
    new = how.choice(_ODD) if how.random() < 0.5 else how.randbytes(how.choice((1, 4, 40)))
    return content[:place] + new + content[place:]


def _swapped(content: bytes, how: random.Random) -> bytes:
    """A number or a word, as text, in place of another."""
    words = list(re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?|\"[^\"]*\"|[a-z_]{3,}", content[:6000]))
    if not words:
        return _flip(content, how)
    word = how.choice(words)
    new = how.choice((*_ODD, how.choice(words).group()))
    return content[: word.start()] + new + content[word.end() :]


def _number(content: bytes, how: random.Random) -> bytes:
    """A length or an offset, as bytes, made huge, small or negative."""
    if len(content) < 8:
        return _inserted(content, how)
    size = how.choice((2, 4, 8))
    place = how.randrange(min(len(content) - size + 1, 400))
    value = how.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, how.getrandbits(64))) % 2 ** (8 * size)
    return content[:place] + value.to_bytes(size, how.choice(("little", "big"))) + content[place + size :]


def _noise(content: bytes, how: random.Random) -> bytes:
    return how.randbytes(how.choice((0, 1, 7, 100, 4000)))


_KINDS = (
    _flip, _flip, _flip, _cut, _cut, _cut_front, _zeroed, _doubled, _inserted, _inserted, _swapped, _swapped, _swapped,
    _number, _number, _noise,
)  # fmt: skip
