"""Appends that are synced one by one, to a file that grows in four ways, in turn on the same disk.

`growing` appends and nothing else. `reserved` has space behind the file allocated by
`fallocate(KEEP_SIZE)`, 64 MiB at a time. `filled` writes zeros ahead, up to 512 KiB, and the appends go
over them, as the engine does; `filled and reserved` does both.
"""

import argparse
import ctypes
import os
import random
import statistics
import sys
import time

FALLOC_FL_KEEP_SIZE = 1
RESERVE_BYTES = 64 << 20
MAX_FILL_BYTES = 512 << 10
PAGE_BYTES = 4 << 10
WAYS = ("growing", "reserved", "filled", "filled and reserved")
LIBC = ctypes.CDLL(None, use_errno=True)


def main():
    options = parse()
    body = random.randbytes(options.size)
    rows = []
    for number in range(1, options.rounds + 1):
        rows.append({way: per_second(way, body, options) for way in WAYS})
        print(f"round {number}: " + ", ".join(f"{way} {rate:.0f}/s" for way, rate in rows[-1].items()), file=sys.stderr)
    for way in WAYS:
        rates = [row[way] for row in rows]
        to_growing = statistics.median(row[way] / row["growing"] for row in rows)
        to_filled = statistics.median(row[way] / row["filled"] for row in rows)
        print(f"{way:20} {statistics.median(rates):7.0f}/s  {to_growing:.2f} x growing  {to_filled:.2f} x filled")


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each way in each round")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."), help="on the disk to measure")
    return parser.parse_args()


def per_second(way, body, options):
    """Synced appends a second."""
    path = os.path.join(options.dir, f"reserve-{os.getpid()}")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        return append(file, way, body, options.seconds)
    finally:
        os.close(file)
        os.remove(path)


def append(file, way, body, seconds):
    offset = filled_to = reserved_to = turns = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        end = offset + len(body)
        if "reserved" in way and end + MAX_FILL_BYTES > reserved_to:
            reserve(file, reserved_to, RESERVE_BYTES)
            reserved_to += RESERVE_BYTES
        zeros = 0
        if "filled" in way and end > filled_to:
            target = end + min(end, MAX_FILL_BYTES)
            zeros = -(-target // PAGE_BYTES) * PAGE_BYTES - end
            filled_to = end + zeros
        os.pwrite(file, body + bytes(zeros), offset)
        os.fdatasync(file)
        offset = end
        turns += 1
    return turns / (time.perf_counter() - began)


def reserve(file, offset, length):
    if LIBC.fallocate(file, FALLOC_FL_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)):
        error = ctypes.get_errno()
        sys.exit(f"error: fallocate: {os.strerror(error)}")


if __name__ == "__main__":
    main()
