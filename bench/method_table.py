"""What every method does to models/books6m and to its twin with outlier channels: README's tables.

usage: method_table.py README.md [--tokens N] [ROW...]      with BUILD, PITH_SHARED in the environment

Each row is one conversion and its evaluation.  Results are kept in BUILD/method-table, by the hash of the
command, the model and the texts, so that an interrupted run goes on where it was and a new pith measures again.
With ROW (a part of a row's name) only those rows are measured, and nothing is written.

Calibrates on WikiText-2's validation part and reports on its test part where PITH_SHARED has
them; else on the EIPs of bench/texts.  Reports on the PEPs and speeches of bench/texts too.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import hashlib
import json
import math
import os
import pathlib
import subprocess
import sys
import time

from make_twin import make_twin
from readme_tables import BUILD, PITH, SOURCE, machine, replace, rows

FOLDER = pathlib.Path(BUILD) / "method-table"
SHARED = os.environ.get("PITH_SHARED")
CALIBRATION = [f"{SHARED}/texts/wikitext2-valid.txt" if SHARED else "bench/texts/docs-eips-00.txt",
               "64" if SHARED else "32"]
TEXTS = ([f"{SHARED}/texts/wikitext2-test.txt"] if SHARED else []) + \
    ["bench/texts/docs-peps-00.txt", "bench/texts/speeches-us-gov-00.txt"]
MAIN_TEXT = TEXTS[0]  # of KL and of differences

# awq has no way with the embedding, which is also the head; gptq's is given to it, so that rows differ in the blocks alone.
def awq(bits):
    return f"awq:bits={bits},group=128 --rule embed_tokens=gptq:bits={bits},group=128"


# A row is a scheme, perhaps with rules behind it.  The first row of a group is what the others are compared
# with.  "=SCHEME": chosen by --bits at the size of that row, which stands before it.
GROUPS = [
    ["bf16"],
    ["rtn:bits=4,group=128", "gptq:bits=4,group=128", awq(4), "awq:clip=0+gptq:bits=4,group=128", "owq:bits=4.1,group=128",
     "spqr:bits=3", "squeezellm:bits=4", "nf4", "mofq:bits=4", "spqr:bits=4,group=32,outliers=0",
     "=gptq:bits=4,group=128", "=spqr:bits=4,group=32,outliers=0"],
    ["rtn:bits=3,group=128", "gptq:bits=3,group=128", awq(3), "awq:clip=0+gptq:bits=3,group=128", "owq:bits=3.1,group=128",
     "spqr:bits=2", "squeezellm:bits=3", "spqr:bits=3,group=32,outliers=0", "rtn:bits=3,group=128+lorc:rank=8",
     "gptq:bits=3,group=128+lorc:rank=8", "=gptq:bits=3,group=128", "=spqr:bits=3,group=32,outliers=0"],
    ["rtn:bits=2,group=32", "gptq:bits=2,group=32", "spqr:bits=2,group=32,outliers=0",
     "=spqr:bits=2,group=32,outliers=0"],
    ["rtn:bits=2,group=128", "gptq:bits=2,group=128", "=gptq:bits=2,group=128"],
    ["magnitude:50%", "wanda:50%", "sparsegpt:50%"],
    ["magnitude:60%", "wanda:60%", "sparsegpt:60%"],
    ["magnitude:70%", "wanda:70%", "sparsegpt:70%"],
    ["magnitude:2:4", "wanda:2:4", "sparsegpt:2:4", "sparsegpt:2:4+gptq:bits=4"],
]
TWIN_GROUPS = [
    ["bf16"],
    ["rtn:bits=4,group=128", "gptq:bits=4,group=128", awq(4), "awq:clip=0+gptq:bits=4,group=128", "owq:bits=4.1,group=128",
     "spqr:bits=3", "spqr:bits=4,group=64,outliers=0", "=gptq:bits=4,group=128"],
    ["rtn:bits=3,group=128", "gptq:bits=3,group=128", awq(3), "awq:clip=0+gptq:bits=3,group=128", "owq:bits=3.1,group=128",
     "spqr:bits=2", "spqr:bits=3,group=64,outliers=0", "=gptq:bits=3,group=128"],
    ["rtn:bits=8,group=row,act=token", "smoothquant+rtn:bits=8,group=row,act=token",
     "os++rtn:bits=8,group=row,act=token"],
    ["rtn:bits=8,group=row,act=static", "smoothquant+rtn:bits=8,group=row,act=static",
     "os++rtn:bits=8,group=row,act=static"],
]


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        data = pathlib.Path(part).read_bytes() if isinstance(part, pathlib.Path) else str(part).encode()
        h.update(hashlib.sha256(data).digest())
    return h.hexdigest()[:24]


def cached(key, measure):
    """The JSON kept under 'key', or what measure() returns, kept; None is not kept."""
    path = FOLDER / f"{key}.json"
    if path.exists():
        return json.loads(path.read_text())
    result = measure()
    if result is not None:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(result))
        temporary.rename(path)
    return result


class Model:
    """A checkpoint, its bf16 file to compare with, and the rows made of it."""

    def __init__(self, name, source):
        self.name, self.source = name, source
        self.key = digest(pathlib.Path(PITH), pathlib.Path(source) / "model.safetensors")
        self.reference = FOLDER / f"{name}-bf16.pith"
        self.bits = {}

    def options(self, row):
        if row.startswith("="):
            return ["--bits", f"{self.bits[row[1:]]:.4f}"]
        return ["--scheme", *row.split()]

    def convert(self, row, path, calibrated=False):
        """Seconds and peak memory; None: this pith does not know the scheme."""
        command = [PITH, "convert", self.source, "-o", str(path), "--force", *self.options(row)]
        if calibrated:
            command += ["--calib", CALIBRATION[0], "--calib-samples", CALIBRATION[1]]
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        talk = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode == 2 and not calibrated and "--calib" in talk:
            return self.convert(row, path, True)
        if process.returncode == 2:
            print(f"{self.name} {row}: left out: {talk.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)}: {talk}")
        return {"seconds": time.monotonic() - start, "memory": usage.ru_maxrss * 1024}

    def evaluate(self, path, text, tokens):
        def measure():
            out = subprocess.run([PITH, "eval", str(path), "--text", text, "--limit", str(tokens), "--against",
                                  str(self.reference), "--windows", "--json"],
                                 check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            return json.loads(out)
        return cached("eval-" + digest(self.key, path, pathlib.Path(text), tokens), measure)

    def measure(self, row, tokens):
        path = FOLDER / f"{self.name}-row.pith"

        def measure():
            print(f"{self.name} {row}", file=sys.stderr)
            result = self.convert(row, path)
            if result is not None:
                result["eval"] = [self.evaluate(path, text, tokens) for text in TEXTS]
            return result
        if row.startswith("=") and row[1:] not in self.bits:
            self.measure(row[1:], tokens)
        if not self.reference.exists() or row == "bf16":
            self.convert("bf16", self.reference)
        result = cached("row-" + digest(self.key, self.options(row), pathlib.Path(CALIBRATION[0]), CALIBRATION[1],
                                        tokens, *map(pathlib.Path, TEXTS)), measure)
        if result is not None:
            self.bits[row] = result["eval"][0]["bits_per_weight"]
        return result


def difference(result, base):
    """Loss a token less the base's, and half its 95 % interval, over pairs of windows."""
    pairs = list(zip(result["eval"][0]["windows"], base["eval"][0]["windows"]))
    total = sum(a[0] for a, _ in pairs)
    mean = sum(a[1] - b[1] for a, b in pairs) / total
    squares = sum((a[1] - b[1] - mean * a[0]) ** 2 for a, b in pairs)
    n = len(pairs)
    return mean, 1.96 * math.sqrt(squares * n / (n - 1)) / total if n > 1 else math.inf


def line(model, row, result, base):
    name = f"--bits {model.bits[row[1:]]:.2f}" if row.startswith("=") else row
    change = "first" if base is None else "{:+.4f} ± {:.4f}".format(*difference(result, base))
    evals = result["eval"]
    return [f"`{name}`", f"{evals[0]['bits_per_weight']:.3f}"] + [f"{e['perplexity']:.2f}" for e in evals] + \
        [f"{evals[0]['kl']:.4f}", change, f"{result['seconds']:.0f}", f"{result['memory'] / 2**20:.0f}"]


def table(model, groups, tokens, wanted):
    lines = []
    for group in groups:
        base = None
        for row in group:
            if wanted and not any(w in row for w in wanted) and row != "bf16":
                continue
            result = model.measure(row, tokens)
            if result is None:
                continue
            lines.append(line(model, row, result, base))
            base = base or result
    head = ["method", "bits per weight"] + [f"perplexity, {pathlib.Path(t).stem}" for t in TEXTS] + \
        ["KL", "loss against the group's first", "seconds", "MiB"]
    return rows(head, lines) + \
        ["", f"(First {tokens:,} tokens of each text; KL and loss in nats a token on {pathlib.Path(MAIN_TEXT).stem}, "
             f"95 % intervals over pairs of windows. Calibrated on {CALIBRATION[1]} samples of "
             f"{pathlib.Path(CALIBRATION[0]).stem}. {machine()}.)"]


def main():
    parser = argparse.ArgumentParser(description="Measure the methods; rewrite README's tables of them.")
    parser.add_argument("readme")
    parser.add_argument("rows", nargs="*", help="parts of names; nothing is written")
    parser.add_argument("--tokens", type=int, default=16384, help="of each text (16384)")
    args = parser.parse_intermixed_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    twin = FOLDER / "twin"
    if not (twin / "config.json").exists():
        make_twin(SOURCE, twin)
    tables = {"methods": (Model("books6m", SOURCE), GROUPS), "methods-twin": (Model("twin", str(twin)), TWIN_GROUPS)}
    path = pathlib.Path(args.readme)
    for name, (model, groups) in tables.items():
        lines = table(model, groups, args.tokens, args.rows)
        print("\n".join(lines))
        if not args.rows:
            path.write_text(replace(path.read_text(encoding="utf-8"), name, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
