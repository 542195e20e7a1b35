#!/usr/bin/python3
"""Text archives beside general compressors, in one run: bits per byte, speed both ways, peak memory.

usage: bench_text_archive.py [--plot OUT.svg]

The texts of bench/texts and a tar of Pith's own source; with PITH_SHARED, the folder of the evaluation texts, also
classic corpora, logs and held-out texts.  At most BENCH_TEXT_NBYTES (300000) bytes of each file.  Every file is
packed by itself and must come back; a group's row is the sum over its files.  'pith zip' runs with --no-verify, because
verification is decoding once more.  A compressor that is not installed is left out, and said so.

SPDX-License-Identifier: Apache-2.0
"""
import html
import io
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

PITH = os.environ.get("PITH", os.path.join(os.environ.get("BUILD", "build"), "pith"))
LIMIT = int(os.environ.get("BENCH_TEXT_NBYTES", 300_000))
SHARED = os.environ.get("PITH_SHARED")
SOURCE_FOLDERS = ("format", "loader", "runtime", "convert", "cli")

# name, pack and unpack: IN and OUT stand for the files
PITH_UNPACK = [PITH, "cat", "IN"]
COMPRESSORS = {
    "pith, fast": ([PITH, "zip", "--level", "fast", "--no-verify", "-o", "-", "IN"], PITH_UNPACK),
    "pith": ([PITH, "zip", "--no-verify", "-o", "-", "IN"], PITH_UNPACK),
    "pith, small": ([PITH, "zip", "--level", "small", "--no-verify", "-o", "-", "IN"], PITH_UNPACK),
    "7z PPMd": (["7z", "a", "-bd", "-y", "-m0=PPMd:o=8:mem=256m", "OUT", "IN"], ["7z", "e", "-so", "IN"]),
    "bzip3": (["bzip3", "-e", "-c", "-b", "16", "IN"], ["bzip3", "-d", "-c", "IN"]),
    "xz -9e": (["xz", "-9e", "-c", "IN"], ["xz", "-dc", "IN"]),
    "zstd -22": (["zstd", "-q", "--ultra", "-22", "--long=27", "-c", "IN"],
                 ["zstd", "-q", "--long=27", "-dc", "IN"]),
}
SUFFIXES = {"7z PPMd": ".7z", "bzip3": ".bz3", "xz -9e": ".xz", "zstd -22": ".zst"}


def source_tar():
    """The C sources of this tree as one tar, the same bytes for the same tree."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(p for folder in SOURCE_FOLDERS for p in pathlib.Path(folder).rglob("*.[ch]")):
            info = tarfile.TarInfo(str(path))
            info.size = path.stat().st_size
            tar.addfile(info, io.BytesIO(path.read_bytes()))
    return out.getvalue()


def groups():
    """{group: [(name, bytes)]}"""
    def read(folder, *names):
        return [(n.replace("/", "-"), (pathlib.Path(folder) / n).read_bytes()[:LIMIT]) for n in names]
    out = {"texts of this project": read("bench/texts", "docs-peps-00.txt", "docs-eips-00.txt",
                                         "speeches-us-gov-00.txt"),
           "source code, tar": [("source-tree", source_tar()[:LIMIT])]}
    if SHARED:
        texts = pathlib.Path(SHARED, "texts")
        calgary = sorted(p.name for p in (texts / "calgary").iterdir())
        out |= {
            "Canterbury, text": read(texts / "canterbury", "alice29.txt", "asyoulik.txt", "lcet10.txt", "plrabn12.txt",
                                     "cp.html", "fields.c", "grammar.lsp"),
            "Calgary, text and binary": read(texts / "calgary", *calgary),
            "system logs": read(texts / "logs", "Apache_2k.log", "HDFS_2k.log", "Linux_2k.log", "OpenSSH_2k.log"),
            "JSON": read(texts / "logs", "sample.json"),
            "WikiText-2 test": read(texts, "wikitext2-test.txt"),
            "held-out books": read(texts / "heldout", "books-00.txt"),
            "held-out Wikipedia": read(texts / "heldout", "wikipedia2015-00.txt", "wikipedia2018-00.txt"),
            "held-out documents": read(texts / "heldout", "docs-mscpp-00.txt", "docs-rust-rfcs-00.txt"),
        }
    return out


def timed(command, source, target):
    """(seconds, peak bytes); the output is 'target' or standard output written to it."""
    words = [{"IN": source, "OUT": target}.get(word, word) for word in command]
    with open(os.devnull if "OUT" in command else target, "wb") as out:
        start = time.monotonic()
        child = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: exit {child.returncode}")
    return time.monotonic() - start, usage.ru_maxrss * 1024


class Total:
    def __init__(self):
        self.nbytes = self.packed = self.peak = self.unpack_peak = 0
        self.seconds = self.unpack_seconds = 0.0

    def measure(self, name, folder, file, data):
        pack, unpack = COMPRESSORS[name]
        source, target, back = (os.path.join(folder, n) for n in (file, "packed" + SUFFIXES.get(name, ".pz"), "back"))
        for path in (target, back):
            pathlib.Path(path).unlink(missing_ok=True)
        pathlib.Path(source).write_bytes(data)
        seconds, peak = timed(pack, source, target)
        unpack_seconds, unpack_peak = timed(unpack, target, back)
        if pathlib.Path(back).read_bytes() != data:
            raise SystemExit(f"{name}: {file} did not come back")
        self.add(len(data), os.path.getsize(target), seconds, unpack_seconds, peak, unpack_peak)

    def add(self, nbytes, packed, seconds, unpack_seconds, peak, unpack_peak):
        self.nbytes, self.packed = self.nbytes + nbytes, self.packed + packed
        self.seconds, self.unpack_seconds = self.seconds + seconds, self.unpack_seconds + unpack_seconds
        self.peak, self.unpack_peak = max(self.peak, peak), max(self.unpack_peak, unpack_peak)

    @property
    def bits(self):
        return 8 * self.packed / self.nbytes

    @property
    def speed(self):
        return self.nbytes / 1000 / self.seconds


def installed(name):
    return shutil.which(COMPRESSORS[name][0][0]) is not None


def measure(say=lambda text: None):
    """{group: {compressor: Total}}"""
    out = {}
    names = [name for name in COMPRESSORS if installed(name)]
    with tempfile.TemporaryDirectory() as folder:
        for group, files in groups().items():
            out[group] = {name: Total() for name in names}
            for file, data in files:
                say(f"{group}: {file}")
                for name in names:
                    out[group][name].measure(name, folder, file, data)
    return out


def sums(results):
    """{compressor: Total} over all groups."""
    out = {}
    for row in results.values():
        for name, t in row.items():
            out.setdefault(name, Total()).add(t.nbytes, t.packed, t.seconds, t.unpack_seconds, t.peak, t.unpack_peak)
    return out


def markdown_row(cells):
    return "| " + " | ".join(cells) + " |"


def ratio_table(results):
    names = list(next(iter(results.values())))
    lines = [markdown_row(["bits per byte", "bytes"] + names), markdown_row(["---"] + ["---:"] * (len(names) + 1))]
    for group, row in list(results.items()) + [("all", sums(results))]:
        best = min(t.packed for t in row.values())
        cells = [f"**{t.bits:.3f}**" if t.packed == best else f"{t.bits:.3f}" for t in row.values()]
        lines.append(markdown_row([group, f"{next(iter(row.values())).nbytes:,}"] + cells))
    return lines


def speed_table(results):
    lines = [markdown_row(["", "bits per byte", "pack KB/s", "unpack KB/s", "pack MB", "unpack MB"]),
             markdown_row(["---"] + ["---:"] * 5)]
    for name, t in sums(results).items():
        lines.append(markdown_row([name, f"{t.bits:.3f}", f"{t.speed:.0f}", f"{t.nbytes / 1000 / t.unpack_seconds:.0f}",
                                   f"{t.peak / 1e6:.0f}", f"{t.unpack_peak / 1e6:.0f}"]))
    return lines


def tables(results):
    absent = [name for name in COMPRESSORS if not installed(name)]
    return ratio_table(results) + [""] + speed_table(results) + \
        ([f"\n(Not installed: {', '.join(absent)}.)"] if absent else [])


def plot(results):
    """Bits per byte over packing speed (logarithmic), as SVG."""
    width, height, left, bottom, top = 640, 360, 60, 50, 20
    points = [(name, t.speed, t.bits) for name, t in sums(results).items()]
    low, high = (math.floor(math.log10(min(p[1] for p in points))), math.ceil(math.log10(max(p[1] for p in points))))
    most = math.ceil(max(p[2] for p in points) * 2) / 2

    def x(speed):
        return left + (math.log10(speed) - low) / (high - low) * (width - left - 110)

    def y(bits):
        return height - bottom - bits / most * (height - bottom - top)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           'font-size="12"><rect width="100%" height="100%" fill="#fff"/>']
    for power in range(low, high + 1):
        out.append(f'<path d="M{x(10 ** power):.1f} {top}V{height - bottom}" stroke="#ddd"/>'
                   f'<text x="{x(10 ** power):.1f}" y="{height - bottom + 18}" text-anchor="middle">{10 ** power:,}</text>')
    for half in range(int(2 * most) + 1):
        out.append(f'<path d="M{left} {y(half / 2):.1f}H{width - 110}" stroke="#ddd"/>'
                   f'<text x="{left - 8}" y="{y(half / 2) + 4:.1f}" text-anchor="end">{half / 2}</text>')
    out.append(f'<text x="{(left + width - 110) / 2}" y="{height - 10}" text-anchor="middle">packing speed, KB/s</text>'
               f'<text transform="translate(16 {height / 2}) rotate(-90)" text-anchor="middle">bits per byte</text>')
    for name, speed, bits in points:
        colour = "#174e86" if name.startswith("pith") else "#888"
        out.append(f'<circle cx="{x(speed):.1f}" cy="{y(bits):.1f}" r="5" fill="{colour}"/>'
                   f'<text x="{x(speed) + 9:.1f}" y="{y(bits) + 4:.1f}" fill="{colour}">{html.escape(name)}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    results = measure(lambda text: print(text, file=sys.stderr, flush=True))
    print("\n".join(tables(results)))
    if "--plot" in sys.argv:
        pathlib.Path(sys.argv[sys.argv.index("--plot") + 1]).write_text(plot(results), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
