#!/usr/bin/python3
"""A text archive of 1 GB in tens of thousands of members: peak memory and time of every command, and interruptions.

Some of it is text, coded with the default model (BENCH_TEXT_NBYTES, a fiftieth unless said otherwise): of the corpus in PITH_SHARED, a quarter
of an hour, or pieces of bench/texts, which repeat so often that zstd codes them. The rest, random bytes,
records and zeros, is appended without the model, so that it takes minutes.  Members come as a tar stream and nothing but
the archive lies on the disk.  BENCH_NBYTES: another size.  Exit status 1 when memory exceeds LIMIT_MIB or an
interruption leaves what it should not.
SPDX-License-Identifier: Apache-2.0
"""
import io
import json
import lzma
import os
import pathlib
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

PITH = os.environ.get("PITH", "build/pith")
NBYTES = int(os.environ.get("BENCH_NBYTES", 10 ** 9))
TEXT_NBYTES = int(os.environ.get("BENCH_TEXT_NBYTES", NBYTES // 50))
LIMIT_MIB = 400


def load_text():
    """TEXT_NBYTES of text, the same share of every part of the corpus."""
    parts = sorted(pathlib.Path(os.environ.get("PITH_SHARED", "/nowhere")).glob("corpus/*.txt.xz"))
    if parts:
        return b"".join(lzma.open(p).read(TEXT_NBYTES // len(parts)) for p in parts)
    text = b"".join(p.read_bytes() for p in sorted(pathlib.Path("bench/texts").glob("*.txt")))
    rng = random.Random(0)
    starts = (rng.randrange(len(text) - 500) for _ in range(TEXT_NBYTES // 500 + 1))
    return b"".join(text[k:k + 500] for k in starts)


TEXT = load_text()


def member(rng, i, is_text, written):
    size = rng.randrange(1, 40_000)
    if is_text:
        return TEXT[written:written + size]
    kind = rng.random()
    if kind < 0.7:
        return rng.randbytes(size)
    if kind < 0.9:
        return b"".join(b"%08x\0\1%c" % (i * 77 + k // 3, k % 7) for k in range(size // 11 + 1))[:size]
    return bytes(size)


def write_tar(out, nbytes, prefix, stop=None):
    """Members until there are nbytes; stop(written) may end it.  Returns their number."""
    rng, written, count = random.Random(prefix), 0, 0
    try:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            while written < nbytes:
                data = member(rng, count, prefix == "text", written)
                info = tarfile.TarInfo(f"{prefix}/{count % 100:02}/file-{count:06}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                written, count = written + len(data), count + 1
                if stop is not None and stop(written):
                    break
    except BrokenPipeError:
        pass
    return count


def run(name, args, feed=None, check=0):
    """Time and peak memory of a command; feed(pipe, process) writes its standard input."""
    start = time.monotonic()
    process = subprocess.Popen([PITH, *args], stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    count = feed(process.stdin, process) if feed else None
    if feed:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    seconds, peak = time.monotonic() - start, usage.ru_maxrss / 1024
    print(f"{name:34}{seconds:8.1f} s {peak:8.0f} MiB   exit {code}", flush=True)
    assert code == check, (name, code)
    assert peak <= LIMIT_MIB, (name, peak)
    return out, count


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "large.pz")
        zip_args = ["zip", "--no-model", "--from-tar"]
        _, texts = run("zip, text", ["zip", "--from-tar", "-o", path, "-"],
                       lambda out, _: write_tar(out, len(TEXT), "text"))
        print(f"{8 * os.path.getsize(path) / len(TEXT):.3f} bits a byte of text")
        _, count = run("append", [*zip_args, "--append", "-o", path, "-"],
                       lambda out, _: write_tar(out, NBYTES - len(TEXT), "first"))
        count += texts
        nbytes = os.path.getsize(path)
        print(f"{count} members, {NBYTES / 1e6:.0f} MB, {len(TEXT) / 1e6:.1f} MB of it text -> {nbytes / 1e6:.0f} MB")
        out, _ = run("list --json", ["list", "--json", path])
        members = json.loads(out)["members"]
        assert len(members) == count
        for i, kind in ((texts // 2, "text"), (count // 2, "binary")):
            out, _ = run(f"cat of one member, {kind}", ["cat", path, members[i]["name"]])
            assert len(out) == members[i]["size"]
        run("test", ["test", path])

        other = os.path.join(folder, "other.pz")

        def interrupt(out, process):
            return write_tar(out, NBYTES, "other", lambda n: n > NBYTES // 20 and not process.send_signal(signal.SIGINT))

        run("zip, interrupted", [*zip_args, "-o", other, "-"], interrupt, -signal.SIGINT)
        assert os.listdir(folder) == ["large.pz"], "an interrupted archive leaves nothing"

        def kill(out, process):
            return write_tar(out, NBYTES // 4, "more", lambda n: n > NBYTES // 10 and not process.kill())

        run("append, killed", [*zip_args, "--append", "-o", path, "-"], kill, -signal.SIGKILL)
        grown = os.path.getsize(path)
        out, _ = run("list", ["list", "--json", path], None, 3 if grown > nbytes else 0)
        assert len(json.loads(out)["members"]) == count, "the old archive stays"
        _, more = run("append again", [*zip_args, "--append", "-o", path, "-"],
                      lambda out, _: write_tar(out, NBYTES // 20, "more"))
        out, _ = run("list", ["list", "--json", path])
        assert len(json.loads(out)["members"]) == count + more
        with open(path, "r+b") as f:
            f.truncate(os.path.getsize(path) - 100)
            f.seek(nbytes // 2)
            f.write(b"damage")
        target = os.path.join(folder, "rescued")
        run("unzip --recover", ["unzip", "--recover", "-C", target, path], None, 3)
        rescued = [p for p in pathlib.Path(target).rglob("*") if p.is_file()]
        whole = sum(p.suffix != ".damaged" for p in rescued)
        print(f"{whole} of {count + more} members are whole without the directory and with a damaged segment")
        assert whole > count + more - 1000


if __name__ == "__main__":
    sys.exit(main())
