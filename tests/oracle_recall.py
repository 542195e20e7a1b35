"""Recall from the prose of spec/text_archive.md, section 15: one key at a time.  SPDX-License-Identifier: Apache-2.0
"""
from fractions import Fraction

import numpy as np

from oracle_mix import H, L, Mixer, clamp

f32 = np.float32


def rne(x):
    return round(Fraction(float(x)))  # ties to even


class Stream:
    """What a stream recalls."""

    def __init__(self, columns):
        self.mean = [f32(0)] * columns
        self.keys, self.lengths = [], []

    def add(self, h):
        x = [f32(a - m) for a, m in zip(h, self.mean)]
        a = max(abs(v) for v in x)
        u = f32(f32(127) / a) if 2.0**-64 <= a <= 2.0**64 else f32(0)
        q = [rne(f32(v * u)) for v in x]
        square = sum(v * v for v in q)
        share = f32(f32(1) / f32(min(len(self.keys) + 1, 1024)))
        self.mean = [f32(m + f32(v * share)) for m, v in zip(self.mean, x)]
        self.keys.append(q)
        self.lengths.append(f32(f32(1) / f32(np.sqrt(f32(square)))) if square else f32(0))

    def weights(self, tokens, vocabulary):
        """Of what is like the newest key, by token; tokens: those before it."""
        t = len(tokens)
        out = [0] * vocabulary
        key, length = self.keys[t], self.lengths[t]
        for j in range(max(0, t - 4096), t):
            if sum((a < 0) != (b < 0) for a, b in zip(key, self.keys[j])) > 13 * len(key) // 32:
                continue
            c = f32(f32(f32(sum(a * b for a, b in zip(key, self.keys[j]))) * length) * self.lengths[j])
            e = f32(f32(f32(c - f32(1)) * f32(1179648)) - f32(64 * (t - j)))
            if e < -1114112:
                continue
            n = min(rne(e), 0)
            k = -(n // 65536)
            f, a = n + 65536 * k, 5110
            for b in (14820, 45605, 65536):
                a = b + a * f // 65536
            out[tokens[j]] += a >> k
        return out


class RecallMixer(Mixer):
    INPUTS, SETS = 48, 7
    FIRST = [40000] + Mixer.FIRST[1:] + [10000] * 2 + [0] * 6

    def more_inputs(self, z, n, logit):
        lo, x, hi = self.at
        zero, one = self.recalled[x] - self.recalled[lo], self.recalled[hi] - self.recalled[x]
        all_, t = self.recalled[-1], self.total
        self.like = zero, one
        if all_ == 0:
            return [logit] * 2
        return [clamp(L(s * (n - z) + one * t) - L(s * z + zero * t), 4095) for s in (2**16, all_)]

    def more_rows(self, inputs, logit, end):
        zero, one = [v.bit_length() - 1 for v in (self.like[0] + 1, self.like[1] + 1)]
        return ((clamp(inputs[41] - logit, 1023) + 1024) // 128 + 16 * ((clamp(logit, 2047) + 2048) // 256) + 256 * end,
                16 * max(zero, one) + min(zero, one, 15))


def state(seed, token, columns):
    """A state of a stream behind a token, and the next seed: also in tests/test_text_mix.c."""
    out = []
    for i in range(columns):
        seed = (seed * 1664525 + 1013904223) % 2**32
        here = (H(token, i) >> 16) - 32768
        out.append(f32((4 * here + (seed >> 16) - 32768) * 2.0**-14))
    return out, seed
