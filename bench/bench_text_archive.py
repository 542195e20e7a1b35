#!/usr/bin/python3
"""Text archives beside xz -9e and zstd -19: bits per byte and KB/s both ways, on five texts, in one run.

Two texts are in bench/texts; three more come from the folder that PITH_SHARED names, if it is set.
At most LIMIT bytes of each are used.  zip runs with --no-verify: verification is the time of decoding again.
SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

PITH = os.environ.get("PITH", "build/pith")
LIMIT = int(os.environ.get("BENCH_TEXT_NBYTES", 300_000))
SHARED = os.environ.get("PITH_SHARED")
TEXTS = [pathlib.Path("bench/texts/docs-peps-00.txt"), pathlib.Path("bench/texts/speeches-us-gov-00.txt")]
if SHARED:
    TEXTS += [pathlib.Path(SHARED, "texts", name)
              for name in ("canterbury/alice29.txt", "wikitext2-test.txt", "logs/Linux_2k.log")]


def timed(command, stdin=None, stdout=subprocess.DEVNULL):
    start = time.monotonic()
    subprocess.run(command, check=True, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def measure(pack, unpack, text, packed, nbytes):
    """Bits per byte, KB/s in, KB/s out; the text must come back."""
    with open(packed, "wb") as out:
        pack_seconds = timed(pack, stdout=out)
    back = packed + ".back"
    with open(back, "wb") as out:
        unpack_seconds = timed(unpack, stdout=out)
    assert open(back, "rb").read() == open(text, "rb").read(), "the text did not come back"
    return 8 * os.path.getsize(packed) / nbytes, nbytes / 1000 / pack_seconds, nbytes / 1000 / unpack_seconds


def main():
    print(f"{'':24}{'bytes':>8}  " + "".join(f"{name:>26}" for name in ("pith zip", "xz -9e", "zstd -19")))
    print(f"{'':34}" + f"{'bits/byte   KB/s   KB/s':>26}" * 3)
    with tempfile.TemporaryDirectory() as folder:
        for source in TEXTS:
            text = os.path.join(folder, source.name)
            data = source.read_bytes()[:LIMIT]
            pathlib.Path(text).write_bytes(data)
            row = f"{source.name:24}{len(data):8}  "
            for pack, unpack, suffix in (
                    ([PITH, "zip", "--no-verify", "-o", "-", text], [PITH, "cat", text + ".pz"], ".pz"),
                    (["xz", "-9e", "-c", text], ["xz", "-dc", text + ".xz"], ".xz"),
                    (["zstd", "-q", "-19", "-c", text], ["zstd", "-q", "-dc", text + ".zst"], ".zst")):
                bits, fast, back = measure(pack, unpack, text, text + suffix, len(data))
                row += f"{bits:11.3f} {fast:6.0f} {back:7.0f}"
            print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main())
