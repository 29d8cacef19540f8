"""Compacts a busy volume and holds what its clients meet against a volume that rests.

Loads run in slices of a few seconds; only slices that the vacuum overlaps as a whole count as
disturbed. What is stored at the end is counted by `dulse check`, which reads every record.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, get_json, request, say  # noqa: E402
from wrk_load import Load, fresh_fids, write_body, write_needles  # noqa: E402

WRITES_PER_S = 2000
READS_PER_S = 5000
MAX_P99_RATIO = 3.0
SLICE_S = 4
UNDISTURBED_SLICES = 5
WRITERS = 32
READERS = 32
SAMPLE = 20_000


def main():
    options = parse()
    directory = os.path.join(options.dir, "vacuum-under-load")
    flags = ["--max-volumes=1", "--garbage-threshold=1"]
    server = Server("dulse", os.environ["DULSE"], os.path.join(directory, "data"), flags)
    body = os.path.join(directory, "body")
    try:
        server.start()
        write_body(body)
        fids = write_needles(server, directory, body, options.needles)
        random.shuffle(fids)
        deleted, kept = fids[: len(fids) // 2], fids[len(fids) // 2 :]
        delete(server, directory, deleted)
        loads = Loads(server, directory, body, kept)
        loads.slice()  # The page cache and the connections settle.
        undisturbed = [loads.slice() for _ in range(UNDISTURBED_SLICES)]
        before = get_json(server.volume, "/status")["Volumes"][0]
        disturbed, seconds = vacuum(server, loads)
        after = get_json(server.volume, "/status")["Volumes"][0]
        verify(server, body, kept + loads.written, deleted)
        live = after["FileCount"] - after["DeleteCount"]
        server.stop()
        check(server, live)
    finally:
        server.kill9()
    report(options, undisturbed, disturbed, seconds, before, after)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--needles", type=int, default=1_000_000)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


def delete(server, directory, fids):
    """Deletes every one of them, most by wrk; those that it did not see answered by hand."""
    left, sure = fids, set()
    while len(left) > 1000:
        load = Load(server, directory, "deletes", left, 10, method="DELETE")
        answered, left = load.split(load.counts()["used"])
        sure.update(answered)
        say(f"{len(left)} needles left to delete")
    for fid in fids:
        if fid not in sure:
            request(server.volume, "DELETE", f"/{fid}")


class Loads:
    """Paced reads and writes side by side, slice by slice."""

    def __init__(self, server, directory, body, kept):
        self.server, self.directory, self.body, self.kept = server, directory, body, kept
        self.written = []

    def slice(self):
        """One slice: rates and 99th percentiles."""
        fids = fresh_fids(self.server, WRITES_PER_S * SLICE_S * 2)
        puts = Load(self.server, self.directory, "writes", fids, SLICE_S, body=self.body,
                    connections=WRITERS, pace_ms=max(WRITERS * 1000 // WRITES_PER_S - 2, 1))
        gets = Load(self.server, self.directory, "reads", self.kept, SLICE_S, script="get.lua",
                    connections=READERS, pace_ms=max(READERS * 1000 // READS_PER_S - 1, 1))
        reads, writes = gets.counts(), puts.counts()
        answered, _ = puts.split(writes["used"])
        self.written += answered
        return {
            "reads_per_s": reads["requests"] / reads["seconds"],
            "writes_per_s": writes["requests"] / writes["seconds"],
            "read_p50_ms": reads["p50_ms"],
            "read_p99_ms": reads["p99_ms"],
            "write_p99_ms": writes["p99_ms"],
        }


def vacuum(server, loads):
    """Runs a vacuum beside the loads; the slices that it overlapped, and how long it took."""
    command = [os.environ["DULSE"], "volume", "vacuum", f"--master={server.master}", "--garbage-threshold=0.01", "--json"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    slices, ended = [], None
    while ended is None:
        measured = loads.slice()
        if process.poll() is None:
            slices.append(measured)
        else:
            ended = time.monotonic()
    answer = json.loads(process.stdout.read())
    if process.returncode != 0 or not answer["done"]:
        raise ScriptError(f"the vacuum failed: {answer}\n{server.log_tail()}")
    if not slices:
        raise ScriptError("the vacuum was over before a slice of the load was: take more --needles")
    return slices, ended - started


def verify(server, body, stored, deleted):
    """A sample of what must be there, and of what must not."""
    with open(body, "rb") as file:
        expected = file.read()
    for fid in random.sample(stored, min(SAMPLE, len(stored))):
        status, _, found = request(server.volume, "GET", f"/{fid}")
        if status != 200 or found != expected:
            raise ScriptError(f"/{fid}: {status}, it should be there as it was stored")
    for fid in random.sample(deleted, min(SAMPLE, len(deleted))):
        status, _, _ = request(server.volume, "GET", f"/{fid}")
        if status != 404:
            raise ScriptError(f"/{fid}: {status}, it was deleted")
    say("what was sampled is as it should be")


def check(server, live):
    """Every record of the stopped server's files, and their number."""
    command = [os.environ["DULSE"], "check", server.directory, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    directories = json.loads(ran.stdout)["directories"] if ran.returncode == 0 else []
    found = sum(volume["live_needles"] for directory in directories for volume in directory["volumes"])
    if found != live:
        raise ScriptError(f"check says {ran.stdout} {ran.stderr}; {live} needles should live")


def report(options, undisturbed, disturbed, seconds, before, after):
    def middle(slices, name):
        return statistics.median(measured[name] for measured in slices)

    print(f"{options.needles} needles, half deleted: {before['Size']} to {after['Size']} bytes in {seconds:.0f} s\n")
    print("| | Slices | Reads/s | Writes/s | Read p50 | Read p99 | Worst slice | Write p99 |\n|---|---|---|---|---|---|---|---|")
    for name, slices in (("undisturbed", undisturbed), ("vacuum", disturbed)):
        worst = max(measured["read_p99_ms"] for measured in slices)
        print(f"| {name} | {len(slices)} | {middle(slices, 'reads_per_s'):.0f} | {middle(slices, 'writes_per_s'):.0f} "
              f"| {middle(slices, 'read_p50_ms'):.2f} ms | {middle(slices, 'read_p99_ms'):.2f} ms | {worst:.2f} ms "
              f"| {middle(slices, 'write_p99_ms'):.1f} ms |")
    ratio = middle(disturbed, "read_p99_ms") / middle(undisturbed, "read_p99_ms")
    held = ratio < MAX_P99_RATIO and after["Size"] < before["Size"] * 0.7
    print(f"\nno request failed, no needle is lost; p99 of reads {ratio:.2f} times the undisturbed one, wanted below "
          f"{MAX_P99_RATIO:.0f}: " + ("held" if held else "FAILED"))
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
