"""Measure what README.md shows and rewrite its tables, between their markers.

usage: readme_tables.py README.md [TABLE...]       with BUILD in the environment

A table stands between '<!-- table NAME -->' and '<!-- end -->'; NAME is a function below.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import bench_text_archive

BUILD = os.environ.get("BUILD", "build")
PITH = os.path.join(BUILD, "pith")
SOURCE = "models/books6m"
EVAL_TEXTS = ("docs-peps-00.txt", "speeches-us-gov-00.txt")
SCHEMES = ("bf16", "rtn:bits=8,group=32", "rtn:bits=4,group=32", "rtn:bits=4,group=128",
           "rtn:bits=3,group=32", "rtn:bits=3,group=128")


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def pith_json(*arguments):
    return json.loads(run(PITH, *arguments, "--json"))


def rows(head, lines):
    out = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
    return out + ["| " + " | ".join(line) + " |" for line in lines]


def convert(folder, scheme, kv="f32"):
    path = os.path.join(folder, re.sub(r"\W+", "-", f"{scheme}-{kv}") + ".pith")
    run(PITH, "convert", SOURCE, "-o", path, "--scheme", scheme, "--kv", kv, "--force")
    return path


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.*)$", text, re.M)
    kernels = pith_json("version")["kernels"]
    return f"{name.group(1) if name else 'unknown processor'}, {len(os.sched_getaffinity(0))} threads, {kernels} kernels"


def quality(folder):
    lines = []
    for scheme in SCHEMES:
        path = convert(folder, scheme)
        results = [pith_json("eval", path, "--text", f"bench/texts/{t}") for t in EVAL_TEXTS]
        lines.append([f"`{scheme}`", f"{os.path.getsize(path):,}", f"{results[0]['bits_per_weight']:.2f}"] +
                     [f"{r['perplexity']:.2f}" for r in results])
    return rows(["scheme", "file bytes", "bits per weight"] + [f"perplexity, {t}" for t in EVAL_TEXTS], lines)


def cache(folder):
    exact, lines = convert(folder, "bf16"), []
    for kv in ("f32", "f16", "int8"):
        path = convert(folder, "bf16", kv)
        bench = pith_json("bench", path, "--rounds", "1", "--seconds", "0", "--no-verify")
        results = [pith_json("eval", path, "--text", f"bench/texts/{t}", "--against", exact) for t in EVAL_TEXTS]
        lines.append([f"`--kv {kv}`", f"{bench['kv_nbytes']:,}"] +
                     [cell for r in results for cell in (f"{r['perplexity']:.3f}", f"{r['kl']:.6f}")])
    return rows(["keys and values", "bytes a position"] + [c for t in EVAL_TEXTS for c in (f"perplexity, {t}", "KL to f32")],
                lines)


def speed(folder):
    lines = []
    for scheme in ("bf16", "rtn:bits=8,group=32", "rtn:bits=4,group=32"):
        r = pith_json("bench", convert(folder, scheme))
        lines.append([f"`{scheme}`", f"{r['prefill_tok_s']:.0f}", f"{r['decode_tok_s']:.0f}",
                      f"{100 * r['bandwidth_share']:.0f} %"])
    return rows(["scheme", "prefill tokens/s", "decode tokens/s", "share of memory bandwidth"], lines) + \
        ["", f"({machine()}; the model fits into the caches, so the share may pass what memory gives.)"]


def archive(_):
    results = bench_text_archive.measure(lambda text: print(text, file=sys.stderr, flush=True))
    pathlib.Path("bench/text_archive.svg").write_text(bench_text_archive.plot(results), encoding="utf-8")
    return bench_text_archive.tables(results) + ["", f"({machine()}.)"]


TABLES = {"quality": quality, "cache": cache, "speed": speed, "archive": archive}


def replace(text, name, lines):
    """README's text with these lines between the markers of table 'name'."""
    marker = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.S)
    if not marker.search(text):
        sys.exit(f"README has no marker for table {name}")
    body = "\n".join(lines)
    return marker.sub(lambda m: f"{m.group(1)}{body}\n{m.group(2)}", text)


def main():
    path = pathlib.Path(sys.argv[1])
    text = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[2:] or TABLES:
            print(f"measuring: {name}", file=sys.stderr)
            text = replace(text, name, TABLES[name](folder))
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
