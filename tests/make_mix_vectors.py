#!/usr/bin/python3
"""Vectors of the mixer, made by tests/oracle_mix.py and tests/oracle_recall.py alone: three streams whose model is noise.

Writes tests/mix_vectors.txt: the bytes of each token, the tokens of each stream, the code, the code with recall.
Frequencies are those of noise() here and in tests/test_text_mix.c.  With --check compares instead.
SPDX-License-Identifier: Apache-2.0
"""
import random
import sys

from make_text_vectors import Coder, path
from oracle_mix import Mixer
from oracle_recall import RecallMixer, Stream, state

PATH = "tests/mix_vectors.txt"
COLUMNS = 70  # of a state


def noise(seed, count):
    """Frequencies of 'count' tokens and the next seed."""
    w = []
    for _ in range(count):
        seed = (seed * 1664525 + 1013904223) % 2**32
        w.append(1 + (seed >> 8) ** 2 // 2**22)
    return w, seed


def make():
    rng = random.Random(21)
    words = [b"the", b"th", b" the", b"e ", b" of", b", ", b"id=", b"abc", b"abcd", b"\n", b"Error", b"\xc3\xa9"]
    tokens = [b""] + [bytes([b]) for b in b"abcdeft ,\n;=09AE\x00\xff\xc3\xa9"] + words + [b"", b"the", b"a"]
    order = sorted(range(len(tokens)), key=lambda i: (tokens[i], i))
    usable = [i for i, b in enumerate(tokens) if b]
    phrase = [rng.choice(usable) for _ in range(24)]
    streams = []
    for count in (260, 250, 170):
        s = []
        while len(s) < count:
            s += phrase[rng.randrange(8):] if rng.random() < 0.6 else [rng.choice(usable) for _ in range(9)]
        streams.append(s[:count])
    sizes = [sum(len(tokens[t]) for t in s) for s in streams]
    begins = [sum(sizes[:i]) for i in range(3)]
    lines = ["# Made by tests/make_mix_vectors.py.  SPDX-License-Identifier: Apache-2.0"]
    lines += ["token " + (b.hex() or "-") for b in tokens]
    lines += ["stream " + " ".join(map(str, s)) for s in streams]
    lines.append("code " + code_of(Mixer(begins, sum(sizes)), tokens, order, streams).hex())
    lines.append("recall " + code_of(RecallMixer(begins, sum(sizes)), tokens, order, streams).hex())
    return "\n".join(lines) + "\n"


def prefix_sums(w, order):
    sums = [0]
    for j in order:
        sums.append(sums[-1] + w[j])
    return sums


def code_of(mixer, tokens, order, streams):
    coder, seed, state_seed = Coder(), 1, 2
    keys = [Stream(COLUMNS) for _ in streams]
    for step in range(max(map(len, streams))):
        for i, s in enumerate(streams):
            if step >= len(s):
                continue
            w, seed = noise(seed, len(tokens))
            sums = prefix_sums(w, order)
            if isinstance(mixer, RecallMixer):
                h, state_seed = state(state_seed, s[step - 1] if step > 0 else 0, COLUMNS)
                keys[i].add(h)
                mixer.total = sums[-1]
                mixer.recalled = prefix_sums(keys[i].weights(s[:step], len(tokens)), order)
            mixer.begin(i)
            for lo, x, hi, bit in path(tokens, order, s[step]):
                mixer.at = lo, x, hi
                p = mixer.predict(x, tokens[order[x - 1]], tokens[order[x]], sums[x] - sums[lo], sums[hi] - sums[lo])
                coder.code(2**22 - p, 2**22, bit)
                mixer.learn(int(bit))
            mixer.end(s[step], tokens[s[step]])
    return coder.finish()


if __name__ == "__main__":
    if "--check" in sys.argv:
        assert open(PATH).read() == make(), PATH + " is not what this script makes"
    else:
        open(PATH, "w").write(make())
