"""Durable puts over one connection, and a loop of `pwrite` and `fdatasync` on the same disk, in turn.

The loop appends to a growing file, as users would write it; a second one writes over a file that
was filled with zeros and synced, whose syncs record no new length or blocks.
"""

import argparse
import os
import random
import shutil
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)

from compare import check_sample, fresh_fids, measure_puts  # noqa: E402
from servers import ScriptError, Server, say  # noqa: E402

MAX_RATIO = 1.5
# More than one connection can put.
FIDS_PER_SECOND = 40_000
FILLED_BYTES = 128 << 20


def main():
    options = parse()
    scratch = os.path.join(options.dir, f"one-connection-{os.getpid()}")
    os.makedirs(scratch)
    rows = []
    try:
        for number in range(1, options.pairs + 1):
            row = {
                "appending loop": loop(os.path.join(scratch, "growing"), options, filled=False),
                "put": puts(os.path.join(scratch, "server"), options),
                "loop in a filled file": loop(os.path.join(scratch, "filled"), options, filled=True),
            }
            rows.append(row)
            say(f"pair {number}: " + ", ".join(f"{name} {us:.0f} us" for name, us in row.items()))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    print(", ".join(f"{name} {us:.0f} us" for name, us in medians.items()))
    ratio = medians["put"] / medians["appending loop"]
    filled = medians["put"] / medians["loop in a filled file"]
    print(f"put / appending loop: {ratio:.2f}, wanted at most {MAX_RATIO}; put / loop in a filled file: {filled:.2f}")
    print("held" if ratio <= MAX_RATIO else "FAILED")
    sys.exit(0 if ratio <= MAX_RATIO else 1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--size", type=int, default=1024, help="bytes of a put and of a turn of the loop")
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."), help="on the disk to measure")
    options = parser.parse_args()
    options.connections = options.threads = 1
    options.fsync = False
    return options


def puts(directory, options):
    """The median latency of a put, in microseconds."""
    server = Server("dulse", os.environ["DULSE"], os.path.join(directory, "data"))
    try:
        server.start()
        fids = fresh_fids(server, options.seconds * FIDS_PER_SECOND, spread=False)
        body = os.path.join(directory, "body")
        with open(body, "wb") as file:
            file.write(random.randbytes(options.size))
        report, written = measure_puts(server, options, directory, fids, body)
        check_sample(server, written, body)
        return report["p50_ms"] * 1000
    finally:
        server.kill9()
        shutil.rmtree(directory, ignore_errors=True)


def loop(path, options, filled):
    """The median of one turn, in microseconds."""
    body = random.randbytes(options.size)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        if filled:
            os.pwrite(file, bytes(FILLED_BYTES), 0)
            os.fsync(file)
        turns, offset = [], 0
        now = end = time.perf_counter()
        end += options.seconds
        while now < end:
            os.pwrite(file, body, offset)
            os.fdatasync(file)
            offset += options.size
            if filled and offset + options.size > FILLED_BYTES:
                offset = 0
            before, now = now, time.perf_counter()
            turns.append(now - before)
        return statistics.median(turns) * 1e6
    finally:
        os.close(file)
        os.remove(path)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
