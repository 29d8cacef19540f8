"""Fills a small file system to its last block through a server, and holds it to its answers.

Twice: with nothing kept free, so that appends themselves run out of space in the middle of a record, and
with a reserve, so that uploads are refused before. Many clients put, overwrite and delete needles of
their own until none of them gets one in any more. Every acknowledged write then reads back and every
acknowledged delete is 404; needles can be deleted, with a reserve each of them; a vacuum that has no room
says so and changes nothing; all of it once more after `kill -9` and a start; `dulse check` finds nothing.
"""

import argparse
import os
import random
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from cut_disk import REFUSED, CutDisk, Unavailable  # noqa: E402
from known_needles import ABSENT, Tally, rng_of  # noqa: E402
from power_cuts import Client, Keys, check, verify  # noqa: E402
from servers import ScriptError, Server, get_json, request, say  # noqa: E402

CLIENTS = 16
# Refusals in a row after which a client takes the disk for full: what is freed meanwhile lets some in.
REFUSALS = 40
# Powers of ten: from 1 to 200 kB, so that a disk is full before long.
LENGTHS = (3, 5.3)
# One needle in so many is deleted when the disk is full.
DELETED_OF = 4
RESERVES = ("0", "16MB")
COUNTED = ("written", "deleted", "refused, volume full", "no volume assigned", "deleted when full", "delete refused",
           "vacuums without room", "vacuums", "read right")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    options = parser.parse_args()
    say(f"seed {options.seed}")
    directory = os.path.join(options.dir, "disk-full")
    disk, total = CutDisk(directory), Tally()
    try:
        disk.attach()
        for reserve in RESERVES:
            disk.make_anew()
            run = Run(options, directory, disk, reserve, total)
            try:
                run.all()
            finally:
                run.server.kill9()
    except Unavailable as error:
        say(f"disk-full: {error}")
        sys.exit(REFUSED)
    finally:
        disk.detach()
    total.report(COUNTED)


class Run:
    """One server on one empty file system."""

    def __init__(self, options, directory, disk, reserve, tally):
        self.seed, self.reserve, self.tally = options.seed, reserve, tally
        self.keys = Keys()
        flags = (f"--min-free-space={reserve}", "--max-volumes=4", "--volume-size-limit=300MB", "--garbage-threshold=1")
        self.server = Server("dulse", os.environ["DULSE"], os.path.join(disk.mount_point, "data"), flags)
        self.server.log_path = os.path.join(directory, f"reserve-{reserve}.log")

    def all(self):
        self.server.start()
        needles = self.fill()
        free = os.statvfs(self.server.directory)
        say(f"reserve {self.reserve}: {len(needles)} needles, {free.f_bavail * free.f_frsize} bytes left")
        self.hold("when full", needles)
        self.delete_some(needles)
        self.vacuum()
        self.hold("after the deletes", needles)
        self.server.kill9()
        self.server.start(wait=False)
        self.server.wait_until("it is ready", lambda: request(self.server.volume, "GET", "/readyz")[0] == 200)
        self.hold("after a restart", needles)
        self.check()

    def fill(self):
        clients = [Filler(self, self.tally, rng_of(self.seed, self.reserve, n)) for n in range(CLIENTS)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not self.tally["refused, volume full"]:
            self.tally.find("nobody was told that the disk is full")
        return [needle for client in clients for needle in client.needles]

    def hold(self, when, needles):
        """Every needle reads as answered, and no volume is worse off than full."""
        before = len(self.tally.findings)
        verify(self.server, needles, CLIENTS, self.tally)
        self.tally.findings[before:] = [f"{when}: {finding}" for finding in self.tally.findings[before:]]
        for volume in get_json(self.server.volume, "/status")["Volumes"]:
            if volume["State"] not in ("writable", "read-only: full", "the disk is short of room"):
                self.tally.find(f"{when}: volume {volume['Id']} is {volume['State']}: {volume.get('Reason')}")

    def delete_some(self, needles):
        for needle in [needle for needle in needles if needle.settled != ABSENT][::DELETED_OF]:
            status, _, answer = request(self.server.volume, "DELETE", f"/{needle.fid}")
            if status == 202:
                needle.settled = ABSENT
                self.tally.count("deleted when full")
            elif status == 507 and self.reserve == "0":
                self.tally.count("delete refused")
            else:
                self.tally.find(f"DELETE /{needle.fid} with {self.reserve} kept free: {status} {answer[:200]!r}")

    def vacuum(self):
        words = [os.environ["DULSE"], "volume", "vacuum", f"--master={self.server.master}", "--garbage-threshold=0"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        say(f"vacuum: {done.returncode} {done.stdout.strip()} {done.stderr.strip()}")
        if done.returncode != 0 and "room" not in done.stdout + done.stderr:
            self.tally.find(f"a vacuum failed for another reason than room: {done.stdout}{done.stderr}")
        self.tally.count("vacuums" if done.returncode == 0 else "vacuums without room")

    def check(self):
        if self.server.stop() != 0:
            self.tally.find("the server did not stop cleanly")
        self.tally.findings += [f"dulse check: {code}: {text}" for code, text in check(self.server.directory)]


class Filler(Client):
    """Writes until nothing gets in any more: new needles while fids are handed out, then its own again."""

    def __init__(self, run, tally, rng):
        super().__init__(run, tally, rng)
        self.refused = 0
        self.gets_fids = True

    def write_one(self):
        try:
            goes_on = super().write_one()
        except ScriptError:
            self.tally.count("no volume assigned")
            self.gets_fids, goes_on = False, True
        return goes_on and self.refused < REFUSALS and (self.gets_fids or self.usable)

    def length(self):
        return int(10 ** self.rng.uniform(*LENGTHS))

    def pick(self):
        return super().pick() if self.gets_fids else self.rng.choice(self.usable)

    def take_answer(self, needle, method, status, answer):
        self.refused = self.refused + 1 if status == 507 else 0
        return super().take_answer(needle, method, status, answer)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
