"""Gets of 1 kB from dulse and from a bare axum handler, in turn, under the same load."""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)

from compare import check_sample, fresh_fids, line, measure_gets, measure_puts  # noqa: E402
from servers import ScriptError, Server, say  # noqa: E402

MAX_RATIO = 1.7
FIDS = 160_000
PUT_SECONDS = 2


class Bare(Server):
    """The example program, which says on its first line where it listens."""

    def __init__(self, program):
        self.kind = "bare"
        self.process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        self.volume = self.process.stdout.readline().strip()

    def log_tail(self):
        return ""


def main():
    options = parse()
    scratch = os.path.join(options.dir, f"bare-{os.getpid()}")
    os.makedirs(scratch)
    bare = Bare(os.environ["BARE"])
    dulse = Server("dulse", os.environ["DULSE"], os.path.join(scratch, "data"))
    rounds = []
    try:
        dulse.start()
        fids = stored(dulse, options, scratch)
        for number in range(1, options.rounds + 1):
            pair = {server.kind: measure_gets(server, options, scratch, fids) for server in (dulse, bare)}
            rounds.append(pair)
            say(f"round {number}: " + ";  ".join(line(kind, report) for kind, report in pair.items()))
    finally:
        dulse.kill9()
        bare.kill9()
        shutil.rmtree(scratch, ignore_errors=True)
    verdict(rounds)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    options = parser.parse_args()
    options.size, options.fsync = 1024, False
    return options


def stored(server, options, directory):
    """Fids of needles that were put."""
    fids = fresh_fids(server, FIDS, spread=False)
    body = os.path.join(directory, "body")
    with open(body, "wb") as file:
        file.write(random.randbytes(options.size))
    short = argparse.Namespace(**(vars(options) | {"seconds": PUT_SECONDS}))
    _, written = measure_puts(server, short, directory, fids, body)
    check_sample(server, written, body)
    return written


def verdict(rounds):
    us = {kind: statistics.median(pair[kind]["cpu_us"] for pair in rounds) for kind in rounds[0]}
    ratio = statistics.median(pair["dulse"]["cpu_us"] / pair["bare"]["cpu_us"] for pair in rounds)
    print(f"processor time of a get: {us['dulse']:.1f} us, of a bare handler {us['bare']:.1f} us; "
          f"ratio {ratio:.2f}, wanted at most {MAX_RATIO}")
    print("held" if ratio <= MAX_RATIO else "FAILED")
    sys.exit(0 if ratio <= MAX_RATIO else 1)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
