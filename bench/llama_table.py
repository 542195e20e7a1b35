"""A table of what bench_llama.sh has measured, on stdout or between the markers of README.md.

usage: llama_table.py RESULTS [README.md]       RESULTS: lines "SCHEME TYPE THREADS ours|theirs JSON"

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import re
import statistics
import sys

HEAD = ("ours", "llama.cpp", "threads", "prefill, tokens/s", "ratio", "decode, tokens/s", "ratio", "share of bandwidth",
        "first token, ms", "ratio, unchecked / verified")


def read(path):
    runs = {}
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        scheme, kind, threads, side, numbers = line.split(" ", 4)
        runs.setdefault((scheme, kind, int(threads)), {"ours": [], "theirs": []})[side].append(json.loads(numbers))
    return runs


def median(runs, key):
    return statistics.median(r[key] for r in runs)


def pair(ours, theirs, key, form, scale=1):
    """Cells 'a (b)' and 'a/b' of medians, with the range of our single ratios to the median of theirs."""
    a = median(ours, key) * scale
    if not theirs:
        return f"{a:{form}} (absent)", ""
    b = median(theirs, key) * scale
    ratios = sorted(r[key] * scale / b for r in ours)
    return f"{a:{form}} ({b:{form}})", f"{a / b:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"


def start(ours, theirs):
    verified, unchecked = median(ours, "start_warm_seconds"), median(ours, "start_unchecked_warm_seconds")
    read_map = median(ours, "map_read_warm_seconds")
    cell = f"{1e3 * unchecked:.0f} / {1e3 * verified:.0f}, reading {1e3 * read_map:.0f}"
    if not theirs:
        return cell, ""
    peer = median(theirs, "start_warm_seconds")
    return f"{cell} ({1e3 * peer:.0f})", f"{unchecked / peer:.3f} / {verified / peer:.3f}"


def table(runs):
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---" + "|---:" * (len(HEAD) - 2) + "|"]
    for (scheme, kind, threads), sides in runs.items():
        ours, theirs = sides["ours"], sides["theirs"]
        cells = [f"`{scheme}`", kind, str(threads), *pair(ours, theirs, "prefill_tok_s", ".0f"),
                 *pair(ours, theirs, "decode_tok_s", ".1f"), f"{100 * median(ours, 'bandwidth_share'):.0f} %",
                 *start(ours, theirs)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def note(runs):
    counts = [len(s["ours"]) for s in runs.values()]
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.*)$", text, re.M)
    return (f"(The shape of TinyLlama, 1.1 B weights; llama.cpp's numbers in brackets; medians of {min(counts)} or more runs in turn,"
            f" [least, most] of ours to their median. {name.group(1) if name else 'unknown processor'}.)")


def main():
    runs = read(sys.argv[1])
    body = "\n".join(table(runs) + ["", note(runs)])
    if len(sys.argv) < 3:
        print(body)
        return
    path = pathlib.Path(sys.argv[2])
    text, found = re.subn(r"(<!-- table llama -->\n).*?(<!-- end -->)", lambda m: f"{m.group(1)}{body}\n{m.group(2)}",
                          path.read_text(encoding="utf-8"), flags=re.S)
    if not found:
        sys.exit(f"{path}: no marker for table llama")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
