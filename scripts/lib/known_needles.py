"""What a needle may read as, by what its only client was answered.

A state is a `Version` or `ABSENT`. A body follows from fid, version and length, so that whatever is
read names the write it comes from.
"""

import hashlib
import random
import sys
import threading
from typing import NamedTuple

ABSENT = "absent"


class Version(NamedTuple):
    """One write of a needle."""

    number: int
    length: int


def body_of(fid, version):
    """A short one is only noise; a longer one begins with its name."""
    name = f"{fid} version {version.number} of {version.length} bytes\n".encode()
    noise = hashlib.shake_128(name).digest(version.length)
    return noise if version.length <= 2 * len(name) else name + noise[len(name) :]


class Needle:
    """One fid: the state that was answered last, and the one that was asked for since."""

    def __init__(self, fid):
        self.fid = fid
        self.settled = ABSENT
        self.asked = None
        self.versions = 0

    @property
    def volume(self):
        return int(self.fid.split(",")[0])

    @property
    def key(self):
        return int(self.fid.split(",")[1][:-8], 16)

    def next_version(self, length):
        self.versions += 1
        return Version(self.versions, length)

    def answered(self):
        self.settled, self.asked = self.asked, None

    def refused(self):
        self.asked = None

    def settle(self, read):
        """Takes in what was read after a cut (None: no such needle). False if it may not be."""
        for state in (self.settled, self.asked):
            if state is not None and read == self.expected(state):
                self.settled, self.asked = state, None
                return True
        return False

    def expected(self, state):
        return None if state == ABSENT else body_of(self.fid, state)

    def may_be(self):
        return f"{self.settled} (answered)" + (f" or {self.asked} (asked for)" if self.asked else "")


class Sample:
    """Needles of earlier rounds: as many as the limit, each as likely as any other."""

    def __init__(self, limit, rng):
        self.limit = limit
        self.rng = rng
        self.needles = []

    def add(self, needles):
        self.needles += needles
        if len(self.needles) > self.limit:
            self.needles = self.rng.sample(self.needles, self.limit)

    def take(self, count):
        """Some, which are no longer in it."""
        self.rng.shuffle(self.needles)
        taken, self.needles = self.needles[:count], self.needles[count:]
        return taken


class Tally:
    """Counts and findings, by many threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}
        self.findings = []

    def count(self, name, by=1):
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + by

    def find(self, text):
        with self.lock:
            self.findings.append(text)

    def __getitem__(self, name):
        return self.counts.get(name, 0)

    def add(self, other):
        """What another counted and found as well."""
        for name, count in other.counts.items():
            self.count(name, count)
        self.findings += other.findings

    def report(self, names, notes=()):
        """Prints counts, notes and the first findings, and ends the program: with 1 if there is one."""
        for name in names:
            print(f"{name:24} {self[name]}")
        for line in (*notes, *self.findings[:20]):
            print(line)
        print(f"{'findings':24} {len(self.findings)}")
        sys.exit(1 if self.findings else 0)


def random_length(rng):
    """1 B to 100 kB: nine in ten around 1 kB, the others anywhere between by magnitude."""
    if rng.random() < 0.9:
        return rng.randint(700, 1400)
    return int(10 ** rng.uniform(0, 5))


def rng_of(*names):
    """A generator of its own for each use, from the seed and what it is for."""
    return random.Random(" ".join(str(name) for name in names))
