"""Mutants of good files: the same for the same random numbers."""

from __future__ import annotations

import json
import random
import struct
import zlib
from typing import Any

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(MUTATIONS)(data, rng)
    return data


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Some bytes become others."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """The beginning, or all but the beginning."""
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.8 else data[at:]


def doubled(data: bytes, rng: random.Random) -> bytes:
    """A piece comes twice."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:]


def absurd(data: bytes, rng: random.Random) -> bytes:
    """A number of 2, 4 or 8 bytes, in either order, becomes 0 or the largest of its kind."""
    size = rng.choice((2, 4, 8))
    at = rng.randrange(max(len(data) - size, 0) + 1)
    number = rng.choice((0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size) - 1, 2 ** (4 * size)))
    return data[:at] + number.to_bytes(size, rng.choice(("big", "little"))) + data[at + size :]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    """A run of zeros, as a disk may leave."""
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 16, 512, 4096))
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def padded(data: bytes, rng: random.Random) -> bytes:
    """Noise somewhere inside."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 7, 100))) + data[at:]


def png_mended(data: bytes, rng: random.Random) -> bytes:
    """A PNG whose header or palette lies, with the right checksums."""
    if not data.startswith(PNG_SIGNATURE):
        return flipped(data, rng)
    chunks, at = [], len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    which = 0 if rng.random() < 0.6 else rng.randrange(len(chunks))
    kind, content = chunks[which]
    chunks[which] = kind, rng.choice((flipped, absurd, cut))(content, rng)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    return PNG_SIGNATURE + b"".join(map(_chunk, chunks))


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, content = chunk
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


MUTATIONS = (flipped, cut, doubled, absurd, zeroed, padded, png_mended)


def json_mutated(plain: Any, rng: random.Random) -> bytes:
    """A document with other values, keys or depths; or its bytes mutated."""
    if rng.random() < 0.25:
        return mutated(json.dumps(plain).encode(), rng)
    if rng.random() < 0.02:
        return b"[" * rng.choice((10, 100_000))
    plain = json.loads(json.dumps(plain))
    for _ in range(rng.choice((1, 1, 2, 5))):
        plain = _elsewhere(plain, rng)
    return json.dumps(plain).encode("utf-8", "surrogatepass")


def _elsewhere(plain: Any, rng: random.Random) -> Any:
    """Changes one value somewhere below."""
    if not isinstance(plain, dict | list) or not plain or rng.random() < 0.1:
        return _junk(rng)
    key = rng.choice(list(plain)) if isinstance(plain, dict) else rng.randrange(len(plain))
    if rng.random() < 0.1:
        del plain[key]
    elif rng.random() < 0.05 and isinstance(plain, dict):
        plain[rng.choice(("", "__class__", "<b>", "\x00", "kind"))] = _junk(rng)
    else:
        plain[key] = _elsewhere(plain[key], rng)
    return plain


def _junk(rng: random.Random) -> Any:
    numbers = (0, -1, 1, 2, 3, 10**9, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"))
    words = ("", "x", "\x00", "../../etc", "<script>alert(1)</script>", "a" * 10_000, "\ud800")
    return rng.choice((None, True, False, [], {}, [[]], {"a": 1}, [1, 2], *numbers, *words))
