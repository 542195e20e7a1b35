"""The mixer from the prose of spec/text_archive.md, sections 10 to 14: slow, in Python integers, no tables but those the
prose has.  SPDX-License-Identifier: Apache-2.0
"""
M32 = 0xFFFFFFFF
KEPT = [0, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6]
BOUNDS = [1, 2, 4, 6, 8, 12, 16, 32, 64, 128, 512]
SHIFT = 16        # of the weights
FINAL_SHIFT = 19  # of the final weights


def exp2_table():
    out = []
    for i in range(256):
        a, f = 5125, 256 * i
        for c in (14653, 45754, 65536):
            a = c + a * f // 65536
        out.append(a)
    return out


EXP2 = exp2_table()
LOG2 = [max(f for f in range(256) if f == 0 or EXP2[f] <= 65536 + 64 * i + 32) for i in range(1024)]
PACE = [4 + 6400 // (n + 400) for n in range(8192)]
RATE = [131072 // (2 * n + 3) for n in range(1024)]


def clamp(x, m):
    return max(-m, min(m, x))


def L(v):
    k = v.bit_length() - 1
    return 256 * k + LOG2[v * 2**10 // 2**k - 2**10]


def squash(x):
    if x < 0:
        return 2**22 - squash(-x)
    e = EXP2[x % 256] << (x // 256)
    return e * 2**22 // (e + 65536)


STRETCH = [L(2 * i + 1) - L(8191 - 2 * i) for i in range(4096)]


def H(a, b):
    h = (a ^ (b * 0x9E3779B1 & M32)) * 0x85EBCA6B & M32
    return (h ^ h >> 15) * 0xC2B2AE35 & M32


def is_letter(b):
    return b >= 128 or chr(b).isalpha()


def grow(word, b):
    return H(word, ord(chr(b).lower()) if b < 128 else b) if is_letter(b) else 0


class Estimate:
    def __init__(self, p):
        self.p, self.count = p, 0

    def learn(self, y):
        self.p += ((2**22 - 1) * y - self.p) * RATE[self.count] // 2**16
        self.count = min(self.count + 1, 1023)

    def logit(self):
        return STRETCH[self.p // 2**10]


class Counter:
    def __init__(self, check=0):
        self.bias, self.n, self.check = 0, [0, 0], check

    def learn(self, y, logit):
        gain = 8000 // (2 * min(sum(self.n), 28) + 3)
        error = (2**22 * y - squash(clamp(logit + self.bias // 4, 5119))) // 64
        self.bias = clamp(self.bias + error * gain // 2**15, 16380)
        self.n[y] = min(self.n[y] + 1, 15)
        self.n[1 - y] = KEPT[self.n[1 - y]]


class Interpolated:
    def __init__(self, rate):
        self.rows, self.rate = {}, rate

    def look_up(self, row, logit):
        u = clamp(logit, 4095) + 4096
        j, f = divmod(u, 256)
        v = self.rows.setdefault(row, [min(squash(256 * (i - 16)) // 64, 65535) for i in range(33)])
        self.learns = v, j + (f >= 128)
        return (v[j] * (256 - f) + v[j + 1] * f) // 256

    def learn(self, y):
        v, j = self.learns
        v[j] += (65535 * y - v[j]) // self.rate


class Stream:
    def __init__(self, begin):
        self.begin = self.at = self.line = self.line_before = begin
        self.bytes, self.tokens = [], [0, 0, 0]
        self.word = self.word_before = self.field = 0
        self.match = [[0, 0, 0], [0, 0, 0]]  # at, len, miss


class Mixer:
    INPUTS, SETS = 40, 5
    FIRST = [60000] + [3000, 5000] * 16 + [5000] * 4 + [4000] * 3

    def more_inputs(self, z, n, logit):
        return []

    def more_rows(self, inputs, logit, end):
        return ()

    def __init__(self, begins, n):
        self.n, self.text, self.starts = n, bytearray(n), bytearray(n)
        self.streams = [Stream(b) for b in begins]
        self.tables = [{}, {}]
        self.b = 16
        while self.b < 24 and 2**self.b < 64 * n:
            self.b += 1
        self.counters = {}
        self.states = [{} for _ in range(16)]
        self.trust = [{}, {}]
        self.refined, self.final = [Interpolated(32), Interpolated(32)], [Interpolated(64), Interpolated(64)]
        self.weights, self.ages, self.final_weights = {}, {}, {}

    def begin(self, i):
        s = self.s = self.streams[i]
        for k, m in enumerate((6, 24)):
            q = s.at
            if q - s.begin < m:
                continue
            h = 0
            for j in range(1, m + 1):
                h = H(h, self.text[q - j])
            e = self.tables[k].get(h >> 14, 0)
            if s.match[k][1] == 0 and e:
                l = 0
                while l < 40 and l < e and l < q and self.text[e - 1 - l] == self.text[q - 1 - l]:
                    l += 1
                if l >= m:
                    s.match[k] = [e, l, 0]
            self.tables[k][h >> 14] = q

    def hashes(self, prefix):
        s = self.s
        word, begun = s.word, 0
        for b in prefix:
            word, begun = grow(word, b), H(begun + 1, b)
        last = list(reversed(s.bytes + list(prefix))) + [0] * 8
        w = [0] + [sum(last[i] << 8 * i for i in range(k)) for k in range(1, 7)]
        column = s.at - s.line + len(prefix)

        def above(j):
            at = s.line_before + column + j
            return self.text[at] if at < s.line else 10
        t1, t2, t3 = s.tokens
        stream = self.streams.index(s)
        values = [w[2], w[3], w[4], H(w[4], w[5] >> 32), H(w[4], w[6] >> 32), H(word, w[1]), H(word, s.word_before),
                  H(256 * above(0) + above(1), w[1]), H(s.field, word),
                  H(begun, t1), H(H(begun, t1), t2), H(H(H(begun, t1), t2), t3),
                  H(begun, stream), H(word, stream), H(H(begun, t1), stream), H(H(H(begun, t1), t2), stream)]
        return [H(H(v, i + 1), min(len(prefix), 2)) for i, v in enumerate(values)], w

    def find(self, context, key):
        h = (context + key) * 0x2C1B3C6D & M32
        h = (h ^ h >> 13) * 0x297A2D39 & M32
        check, place, line = h >> 24, (h >> 20) % 16, context >> (36 - self.b)
        two = [self.counters.setdefault((line, p), Counter()) for p in (place, place ^ 1)]
        for c in two:
            if c.check == check and sum(c.n) > 0:
                return c
        at = place ^ 1 if sum(two[1].n) < sum(two[0].n) else place
        c = self.counters[line, at]
        c.__init__(check)  # the same counter, for whoever found it before
        return c

    def match_says(self, k, prefix, end, key, bit):
        at, c = self.s.match[k][0], len(prefix)
        if at == 0 or at + c >= self.n or self.text[at:at + c] != prefix:
            return None
        if end:
            return 1 - self.starts[at + c]
        bits = "1" + format(self.text[at + c], "08b")
        return int(bits[bit + 1]) if int(bits[:bit + 1], 2) == key else None

    def predict(self, x, left, right, z, n):
        """The decision at split x between the bytes 'left' and 'right'."""
        c = 0
        while c < len(left) and c < len(right) and left[c] == right[c]:
            c += 1
        prefix, end = bytes(right[:c]), len(left) == c
        if end:
            key, bit = 256 + min(c, 31), 8
        else:
            b = (left[c] ^ right[c]).bit_length() - 1
            key, bit = 2**(7 - b) + right[c] // 2**(b + 1), 7 - b
        contexts, w = self.hashes(prefix)
        logit = clamp(L(n - z) - L(z), 4095)
        inputs, self.found = [logit], []
        for i, h in enumerate(contexts):
            counter = self.find(h, key)
            estimate = None
            if sum(counter.n) > 0:
                zeros, ones = counter.n
                first = (5 * ones + 2) * 2**22 // (5 * (zeros + ones) + 4)
                estimate = self.states[i].setdefault((zeros, ones), Estimate(first))
                inputs += [estimate.logit(), counter.bias // 4]
            else:
                inputs += [0, 0]
            self.found.append((counter, estimate))
        row, self.matched = 0, []
        for k in range(2):
            says = self.match_says(k, prefix, end, key, bit)
            if says is None:
                inputs += [0, 0]
                continue
            _, length, miss = self.s.match[k]
            group = sum(length >= b for b in BOUNDS)
            number = group + 16 * min(miss, 7) + 128 * end + 256 * (c > 0)
            e = self.trust[k].setdefault(number, Estimate(2**22 - 2**22 // (number % 16 + 3)))
            sign = 1 if says else -1
            inputs += [sign * e.logit(), sign * 16 * min(length, 32)]
            self.matched.append((e, says))
            row = 1 + group + 12 * k
        for m, r in zip(self.refined, (x % 4096, H(w[1], 4 * key + min(c, 3)) % 4096)):
            inputs.append(STRETCH[m.look_up(r, logit) // 16])
        inputs.append(256)
        inputs += self.more_inputs(z, n, logit)
        self.inputs = inputs + [0] * (self.INPUTS - len(inputs))
        known = [e is not None for _, e in self.found]
        rows = (2 * row + end,
                min(c, 15) if end else 128 + key if c == 0 else 16 + bit + 8 * min(c, 7),
                20 * min(abs(logit) // 256, 12) + min(sum(known), 19),
                2 * w[1] + end,
                8 * sum(known[:5]) + min(bit, 7) + 64 * end + 128 * min(c, 3)) + self.more_rows(inputs, logit, end)
        self.row_names = list(enumerate(rows))
        self.rows = [self.weights.setdefault((s, r), list(self.FIRST)) for s, r in enumerate(rows)]
        self.final_row = self.final_weights.setdefault(min(c, 15) if end else 16 + bit + 8 * min(c, 3),
                                                     [65536 // self.SETS] * self.SETS)
        self.dots = [clamp(sum(a * b // 256 for a, b in zip(r, self.inputs)) // 256, 5119) for r in self.rows]
        total = clamp(sum(clamp(d, 4095) * f // 256 for d, f in zip(self.dots, self.final_row)) // 256, 5119)
        self.mixed = squash(total)
        r = [m.look_up(at, total) for m, at in
             zip(self.final, (key + 512 * (c > 0), H(w[2], key) % 4096))]
        return max(4, min(2**22 - 4, (2 * self.mixed + 64 * r[0] + 64 * r[1]) // 4))

    def learn(self, y):
        def error(q):
            return (2**22 * y - q) // 64
        for s, f in enumerate(self.final_row):
            change = clamp(self.dots[s], 4095) * error(self.mixed) + 2**(FINAL_SHIFT - 1)
            self.final_row[s] = clamp(f + change // 2**FINAL_SHIFT, 524287)
            age = self.ages.setdefault(self.row_names[s], 0)
            step = error(squash(self.dots[s])) * PACE[age] // 16
            self.ages[self.row_names[s]] = min(age + 1, 8191)
            self.rows[s][:] = [clamp(w + (i * step + 2**(SHIFT - 1)) // 2**SHIFT, 524287)
                               for w, i in zip(self.rows[s], self.inputs)]
        for counter, estimate in self.found:
            if estimate is not None:
                estimate.learn(y)
            counter.learn(y, self.inputs[0])
        for estimate, says in self.matched:
            estimate.learn(int(says == y))
        for m in self.refined + self.final:
            m.learn(y)

    def end(self, token, token_bytes):
        s, b = self.s, len(token_bytes)
        for m in s.match:
            if m[0] == 0:
                continue
            inside = m[0] + b < self.n
            if inside and self.text[m[0]:m[0] + b] == token_bytes:
                m[1] = min(m[1] + b, 65535)
                m[2] = 0 if m[1] >= 16 else m[2]
            else:
                m[1], m[2] = 0, m[2] + 1
            m[0] += b
            if not inside or m[2] > 7:
                m[:] = [0, 0, 0]
        self.starts[s.at] = 1
        for byte in token_bytes:
            self.text[s.at] = byte
            s.at += 1
            s.bytes.append(byte)
            if not is_letter(byte) and s.word:
                s.word_before = s.word
            s.word = grow(s.word, byte)
            if byte == 10:
                s.line_before, s.line, s.field = s.line, s.at, 0
            elif byte in b" ,;\t":
                s.field += 1
        s.tokens = [token + 1] + s.tokens[:2]
