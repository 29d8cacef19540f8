"""Opens a volume whose index is gone and reads its file with `dd`, in turn, each from the disk."""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, say  # noqa: E402

MIN_RATIO = 0.7


def main():
    options = parse()
    if os.geteuid() != 0:
        raise ScriptError("only root can empty the page cache")
    ratios = [compare(options, kib) for kib in (1, 100)]
    print("held" if min(ratios) >= MIN_RATIO else "FAILED")
    sys.exit(0 if min(ratios) >= MIN_RATIO else 1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."), help="on the disk to measure")
    return parser.parse_args()


def compare(options, kib):
    """How fast a volume of needles of 1 to `kib` KiB is opened, as a part of dd's speed."""
    directory = os.path.join(options.dir, f"full-scan-{os.getpid()}")
    os.makedirs(directory)
    rounds = []
    try:
        made = output([os.environ["BENCH"], "make", directory, str(options.gib), str(kib)]).strip()
        print(f"needles of 1 to {kib} KiB: {made}")
        for number in range(1, options.rounds + 1):
            speeds = {
                "dd, direct": dd(directory, ["iflag=direct"]),
                "open": scan(directory),
                "dd, buffered": dd(directory, []),
            }
            rounds.append(speeds)
            say(f"round {number}: " + ", ".join(f"{name} {speed:.0f} MB/s" for name, speed in speeds.items()))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    median = {name: statistics.median(speeds[name] for speeds in rounds) for name in rounds[0]}
    direct, buffered = (median["open"] / median[name] for name in ("dd, direct", "dd, buffered"))
    speeds = ", ".join(f"{name} {speed:.0f} MB/s" for name, speed in median.items())
    print(f"{speeds}; open / dd: {direct:.2f} direct, wanted at least {MIN_RATIO}; {buffered:.2f} buffered")
    return direct


def scan(directory):
    """Megabytes a second of an open that reads everything."""
    drop_caches(directory)
    size, needles, seconds = output([os.environ["BENCH"], "open", directory]).split()
    if int(needles) == 0:
        raise ScriptError("the volume that was opened is empty")
    return int(size) / float(seconds) / 1e6


def dd(directory, flags):
    """The same of `dd`."""
    path = os.path.join(directory, "1.dat")
    drop_caches(directory)
    start = time.monotonic()
    output(["dd", f"if={path}", "of=/dev/null", "bs=4M", "status=none", *flags])
    return os.path.getsize(path) / (time.monotonic() - start) / 1e6


def drop_caches(directory):
    """Each reader finds the memory as another left it: read into just now, so that none pays for
    pages that the host of a virtual machine took back meanwhile."""
    output(["cp", os.path.join(directory, "1.dat"), "/dev/null"])
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def output(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise ScriptError(f"{command[0]} failed: {result.stderr}")
    return result.stdout


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
