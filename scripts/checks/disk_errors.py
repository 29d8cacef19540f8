"""Makes one system call of a running server fail as a failing disk would, and holds it to its answers.

Each round starts the server on empty directories, lets clients write needles of their own, and has
strace, attached to the running process, fail one call on a `.dat`: a sync with EIO, a write with EIO, or
a write with ENOSPC. Then: after a failed sync exactly one volume is read-only and `/status` says what
failed; a failed write is taken back, nothing is stored, and no volume stops. The other volumes go on.
Every acknowledged needle reads back at once and after a restart; what was answered `write_unknown`
reads as its old or its new state; any other error is a finding.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from known_needles import Needle, Tally, body_of, random_length, rng_of  # noqa: E402
from servers import ScriptError, Server, assign, get_json, say  # noqa: E402

FAULTS = (("fdatasync", "EIO"), ("pwritev", "EIO"), ("pwritev", "ENOSPC"))
SERVER_FLAGS = ("--volume-size-limit=200MB", "--max-volumes=24")
# How long clients write before the fault, and after it.
BEFORE_S, AFTER_S = 1.0, 1.5
ATTACH_LIMIT_S = 20
ANSWER_LIMIT_S = 60
ROUND_TRIES = 3
COUNTED = ("rounds", "syncs failed", "writes failed", "written", "write_unknown", "volume_full",
           "volume_read_only", "went on elsewhere", "read right")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    say(f"seed {options.seed}")
    total = Tally()
    for number in range(options.rounds):
        call, error = FAULTS[number % len(FAULTS)]
        tally = Tally()
        Round(options, number, call, error, tally).run()
        total.add(tally)
        total.count("rounds")
        say(f"round {number + 1}: {call} {error}: {dict(tally.counts)}, {len(tally.findings)} findings")
        if total.findings:
            break
    total.report(COUNTED)


class Round:
    """One server, one fault."""

    def __init__(self, options, number, call, error, tally):
        self.call, self.error, self.tally = call, error, tally
        self.trace = os.path.join(options.dir, f"trace-{number}")
        self.server = Server("dulse", os.environ["DULSE"], os.path.join(options.dir, f"data-{number}"), SERVER_FLAGS)
        self.clients = [Client(self, rng_of(options.seed, number, n)) for n in range(options.clients)]
        self.is_over = False
        self.failed_at = None

    def run(self):
        self.server.start()
        threads = [threading.Thread(target=client.run, daemon=True) for client in self.clients]
        try:
            for thread in threads:
                thread.start()
            time.sleep(BEFORE_S)
            hit = self.inject()
            self.failed_at = time.monotonic()
            time.sleep(AFTER_S)
            self.is_over = True
            for thread in threads:
                thread.join(ANSWER_LIMIT_S)
            self.judge(hit)
            self.read_all("at once")
            self.server.stop()
            self.server.start()
            self.read_all("after a restart")
            states = volume_states(self.server)
            if any(state["State"].startswith("read-only") for state in states.values()):
                self.tally.find(f"after a restart: {states}")
        finally:
            self.server.kill9()

    def inject(self):
        """Has one call on some volume file fail; the volume's number."""
        dat = self.busiest()
        words = ["strace", "-f", "-y", "-o", self.trace, "-P", dat, "-e", f"trace={self.call}",
                 "-e", f"inject={self.call}:error={self.error}:when=1", "-p", str(self.server.process.pid)]
        tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + ATTACH_LIMIT_S
            while time.monotonic() < deadline:
                if os.path.exists(self.trace):
                    with open(self.trace, encoding="utf-8", errors="replace") as trace:
                        if "(INJECTED)" in trace.read():
                            return int(os.path.basename(dat).split(".")[0])
                time.sleep(0.01)
            raise ScriptError(f"no {self.call} on {dat} within {ATTACH_LIMIT_S} s")
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()

    def busiest(self):
        names = [name for name in os.listdir(self.server.directory) if name.endswith(".dat")]
        paths = [os.path.join(self.server.directory, name) for name in names]
        return max(paths, key=os.path.getsize)

    def judge(self, hit):
        self.tally.count("syncs failed" if self.call == "fdatasync" else "writes failed")
        failed = {n: s for n, s in volume_states(self.server).items() if s["State"] == "read-only: the disk failed"}
        if self.call != "fdatasync":
            if failed:
                self.tally.find(f"a write that was taken back stopped volumes: {failed}")
            if self.tally["write_unknown"]:
                self.tally.find("a write that was taken back was answered write_unknown")
            if not self.tally["volume_full"]:
                self.tally.find("nobody was told that a write was taken back")
            return
        if set(failed) != {hit}:
            self.tally.find(f"the sync of volume {hit} failed, these stopped: {failed}")
        elif not failed[hit].get("Reason", "").startswith("a sync of the volume file failed on "):
            self.tally.find(f"/status does not say why: {failed[hit]}")
        if not self.tally["write_unknown"]:
            self.tally.find("no client was answered write_unknown")
        if not self.tally["went on elsewhere"]:
            self.tally.find("no other volume was written to afterwards")

    def read_all(self, when):
        connection = http.client.HTTPConnection(self.server.volume, timeout=ANSWER_LIMIT_S)
        for needle in (needle for client in self.clients for needle in client.needles):
            connection.request("GET", f"/{needle.fid}")
            response = connection.getresponse()
            body = response.read()
            if response.status not in (200, 404):
                self.tally.find(f"{when}: /{needle.fid}: {response.status} {body[:200]!r}")
            elif needle.may_read(body if response.status == 200 else None):
                self.tally.count("read right")
            else:
                self.tally.find(f"{when}: /{needle.fid}: {response.status}, {len(body)} bytes; has to be {needle.may_be()}")
        connection.close()


def volume_states(server):
    return {volume["Id"]: volume for volume in get_json(server.volume, "/status")["Volumes"]}


class WrittenNeedle(Needle):
    """One that is written once."""

    def may_read(self, read):
        """Whether this may be read; a restart may still turn one outcome of the unknown into the other."""
        states = [state for state in (self.settled, self.asked) if state is not None]
        return any(read == self.expected(state) for state in states)


class Client:
    """Writes new needles, one at a time."""

    def __init__(self, around, rng):
        self.around, self.rng = around, rng
        self.needles = []
        self.fresh = []

    def run(self):
        try:
            connection = http.client.HTTPConnection(self.around.server.volume, timeout=ANSWER_LIMIT_S)
            while not self.around.is_over:
                self.write_one(connection)
            connection.close()
        except Exception as error:  # noqa: BLE001, a client that ends without a word proves nothing
            self.around.tally.find(f"a client failed: {error!r}")

    def write_one(self, connection):
        if not self.fresh:
            self.fresh = [WrittenNeedle(fid) for fid in assign(self.around.server, 4)]
        needle = self.fresh.pop()
        self.needles.append(needle)
        needle.asked = needle.next_version(random_length(self.rng))
        began = time.monotonic()
        connection.request("PUT", f"/{needle.fid}", body_of(needle.fid, needle.asked))
        response = connection.getresponse()
        self.take_answer(needle, began, response.status, response.read())

    def take_answer(self, needle, began, status, answer):
        tally = self.around.tally
        if status == 201:
            needle.answered()
            tally.count("written")
            if self.around.failed_at and began > self.around.failed_at:
                tally.count("went on elsewhere")
            return
        code = json.loads(answer).get("code", "") if answer.startswith(b"{") else ""
        expected = {"write_unknown": 503, "volume_read_only": 503, "volume_full": 507}
        if expected.get(code) != status:
            tally.find(f"PUT /{needle.fid}: {status} {answer[:300]!r}")
            return
        tally.count(code)
        if code != "write_unknown":
            needle.refused()


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
