#!/usr/bin/python3
"""Vectors of the text coder, made from the prose of spec/text_archive.md, sections 8 and 9, alone.

Writes tests/text_vectors.txt: the bytes of each token, then a line per step with the token coded, the
frequencies' sum and the logits' bits, then the code.  With --check compares instead.
SPDX-License-Identifier: Apache-2.0
"""
import random
import struct
import sys
from fractions import Fraction

import numpy as np

PATH = "tests/text_vectors.txt"
f32 = np.float32


def frequencies(logits):
    """Section 8, one logit at a time, in Python integers behind the two float operations."""
    m = max(logits)
    e = []
    with np.errstate(over="ignore"):
        for l in logits:
            t = (l - m) * f32(94548.4609375)
            t = max(t, f32(-2031616))
            n = round(Fraction(float(t)))  # ties to even
            k = -((n) // 65536) if n % 65536 == 0 else -(n // 65536)
            f = n + 65536 * k
            assert 0 <= f < 65536 and 0 <= k <= 31
            a = 5110
            for c in (14820, 45605, 65536):
                a = c + a * f // 65536
            e.append((a << 14) >> k)
    s = sum(e).bit_length() - 1 - 30
    w = [(x >> s) + 1 for x in e]
    assert 1 << 30 <= sum(w) < 1 << 32
    return w


def path(tokens, order, token):
    """The decisions of a token as (lo, x, hi, bit), by section 9's three rules."""
    lo, hi, at = 0, len(order), order.index(token)
    while hi - lo > 1:
        inside = [tokens[i] for i in order[lo:hi]]
        if len(set(inside)) == 1:
            x = lo + (hi - lo) // 2
        else:
            c = 0
            while all(len(b) > c and b[c] == inside[0][c] for b in inside):
                c += 1
            if len(inside[0]) == c:
                x = lo + next(i for i, b in enumerate(inside) if len(b) > c)
            else:
                mask = 1 << ((inside[0][c] ^ inside[-1][c]).bit_length() - 1)
                x = lo + next(i for i, b in enumerate(inside) if b[c] & mask)
        bit = at >= x
        yield lo, x, hi, bit
        lo, hi = (x, hi) if bit else (lo, x)


class Coder:
    def __init__(self):
        self.low, self.high, self.out = 0, 2**32 - 1, bytearray()

    def code(self, z, n, bit):
        mid = self.low + (self.high - self.low) * z // n
        assert 0 < z < n and self.low <= mid < self.high
        if bit:
            self.low = mid + 1
        else:
            self.high = mid
        while self.low >> 24 == self.high >> 24:
            self.out.append(self.high >> 24)
            self.low = (self.low << 8) & 0xFFFFFFFF
            self.high = ((self.high << 8) & 0xFFFFFFFF) + 255

    def finish(self):
        if self.low:
            self.out.append((self.low >> 24) + 1)
        return bytes(self.out)


def make():
    rng = random.Random(20)
    tokens = [b"", b"a", b"b", b"ab", b"abc", b"a", b"\xff", b"\x80", b"\x7f", b"\0", b"", b"abd", b"the",
              b" the", b"\xff\xff", b"\0\0", b"a\0", b"abcdefgh", b"abcdefgi", b"", b"b"]
    order = sorted(range(len(tokens)), key=lambda i: (tokens[i], i))
    kinds = [lambda: rng.gauss(0, 3), lambda: rng.gauss(0, 40), lambda: 0.0, lambda: -0.0,
             lambda: rng.choice([3e38, -3e38, 0.0]), lambda: rng.gauss(0, 1e-5), lambda: -rng.random() * 22]
    lines = ["# Made by tests/make_text_vectors.py.  SPDX-License-Identifier: Apache-2.0"]
    lines += ["token " + (b.hex() or "-") for b in tokens]
    coder, bits = Coder(), 0.0
    for step in range(210):
        logits = [f32(kinds[step % len(kinds)]()) for _ in tokens]
        w = frequencies(logits)
        token = rng.randrange(len(tokens)) if step % 3 == 0 else w.index(max(w))
        bits -= np.log2(w[token] / sum(w))
        sums = [0]
        for i in order:
            sums.append(sums[-1] + w[i])
        for lo, x, hi, bit in path(tokens, order, token):
            coder.code(sums[x] - sums[lo], sums[hi] - sums[lo], bit)
        hexes = " ".join("%08x" % struct.unpack("<I", struct.pack("<f", l)) for l in logits)
        lines.append(f"step {token} {sum(w)} {hexes}")
    code = coder.finish()
    assert 8 * len(code) <= bits + 12, (bits, len(code))  # less: no decision costs over 32 bits
    return "\n".join(lines + ["code " + code.hex()]) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        assert open(PATH).read() == make(), PATH + " is not what this script makes"
    else:
        open(PATH, "w").write(make())
