"""Kills a server in the middle of compactions and holds what is left against its answers.

One volume, 16 clients that each write needles of their own, so many and no more, so that every vacuum
takes about as long. How long a vacuum takes beside them is
measured first, and corrected by each kill that came before or after the new file took the place of
the old one, which the volume's compaction revision tells. One kill falls anywhere in a vacuum, the
next near its end, where most can go wrong.
"""

import argparse
import os
import random
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from known_needles import Tally, rng_of  # noqa: E402
from power_cuts import Client, Keys, verify  # noqa: E402
from servers import ScriptError, Server, get_json, say  # noqa: E402

SERVER_FLAGS = ["--max-volumes=1", "--garbage-threshold=1"]
CLIENTS = 16
READERS = 8
FIRST_FILL_S = 8
NEEDLES_EACH = 600
# Moments of a kill, as parts of what a vacuum takes.
ANYWHERE = (0, 1)
NEAR_ITS_END = (0.9, 1.15)


def main():
    options = parse()
    say(f"seed {options.seed}")
    run = Run(options)
    try:
        run.fill()
        for kill in range(options.kills):
            run.one_kill(kill)
            if run.tally.findings:
                break
        run.finish()
    finally:
        run.server.kill9()
    run.report()


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


class Keeper(Client):
    """A client that, once it has its needles, overwrites and deletes those alone."""

    def pick(self):
        return self.rng.choice(self.usable) if len(self.usable) >= NEEDLES_EACH else super().pick()


class Run:
    """The server, and what is known of its needles."""

    def __init__(self, options):
        self.options = options
        directory = os.path.join(options.dir, "vacuum-kills", "data")
        self.server = Server("dulse", os.environ["DULSE"], directory, SERVER_FLAGS)
        # Those of each client.
        self.needles = [[] for _ in range(CLIENTS)]
        self.keys = Keys()
        self.tally = Tally()
        self.vacuum_s_per_byte = 0

    def fill(self):
        """Needles and garbage, and how long a vacuum takes beside clients."""
        self.server.start()
        clients = self.start_clients("fill")
        time.sleep(FIRST_FILL_S)
        size, started = self.size(), time.monotonic()
        if self.start_vacuum().wait(timeout=300) != 0:
            raise ScriptError(f"the first vacuum failed\n{self.server.log_tail()}")
        seconds = time.monotonic() - started
        self.vacuum_s_per_byte = seconds / size
        say(f"a vacuum of {size} bytes beside {CLIENTS} clients takes {seconds:.1f} s")
        self.kill(clients)
        self.read_back(clients)

    def start_clients(self, name):
        clients = [
            Keeper(self, self.tally, rng_of(self.options.seed, name, n), needles)
            for n, needles in enumerate(self.needles)
        ]
        for client in clients:
            client.thread = threading.Thread(target=client.run)
            client.thread.start()
        return clients

    def start_vacuum(self):
        command = [os.environ["DULSE"], "volume", "vacuum", f"--master={self.server.master}", "--garbage-threshold=0"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, clients):
        for client in clients:
            client.is_over = True
        self.server.kill9()
        for client in clients:
            client.thread.join()

    def one_kill(self, kill):
        clients = self.start_clients(f"kill {kill}")
        time.sleep(0.3)
        before, size = self.revision(), self.size()
        vacuum = self.start_vacuum()
        moment = rng_of(self.options.seed, "moment", kill).uniform(*(ANYWHERE, NEAR_ITS_END)[kill % 2])
        time.sleep(moment * self.vacuum_s_per_byte * size)
        self.kill(clients)
        vacuum.wait(timeout=60)
        self.read_back(clients)
        swapped = self.revision() != before
        if swapped == (moment < 1):
            self.vacuum_s_per_byte *= moment if swapped else moment * 1.1
        self.tally.count("kills")
        self.tally.count("kills with the new file in place" if swapped else "kills with the old file in place")
        say(f"kill {kill + 1}: {'new' if swapped else 'old'} file, {len(self.tally.findings)} findings")

    def revision(self):
        return get_json(self.server.volume, "/status")["Volumes"][0]["CompactRevision"]

    def size(self):
        return get_json(self.server.volume, "/status")["Volumes"][0]["Size"]

    def read_back(self, clients):
        """Starts the server again; what is left must be what was answered."""
        self.server.start()
        volume = get_json(self.server.volume, "/status")["Volumes"][0]
        if volume["ReadOnly"]:
            self.tally.find(f"the volume is read-only: {volume}")
        strays = [name for name in os.listdir(self.server.directory) if name.endswith((".cpd", ".cpx", ".cpc"))]
        if strays:
            self.tally.find(f"left over: {strays}")
        self.needles = [client.needles for client in clients]
        self.verify_all()

    def verify_all(self):
        verify(self.server, [needle for held in self.needles for needle in held], READERS, self.tally)

    def finish(self):
        """All that is known, and every byte of the files."""
        self.verify_all()
        self.server.stop()
        checked = subprocess.run([os.environ["DULSE"], "check", self.server.directory], capture_output=True, text=True,
                                 check=False)
        if checked.returncode != 0:
            self.tally.find(f"dulse check: {checked.stdout}{checked.stderr}")

    def report(self):
        for name, count in sorted(self.tally.counts.items()):
            print(f"{name}: {count}")
        for finding in self.tally.findings[:20]:
            print(f"FOUND {finding}")
        print(f"{len(self.tally.findings)} findings")
        sys.exit(1 if self.tally.findings else 0)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
