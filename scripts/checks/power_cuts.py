"""Cuts the power under a server while many clients write, and holds what is left against the answers.

Each round: the clients put, overwrite and delete needles, each its own; after a random time the file
system is shut down without its log, the server killed, the file system mounted again and the server
started. Then every acknowledged write reads back with exactly its bytes and every acknowledged delete
is 404; what was under way reads as its old or its new state, and as that one from then on; no volume
is read-only or missing, no fid was handed out twice, and no error is logged before the next cut.
What is answered once the cut has begun counts as under way: ext4 may return success for a sync whose
transaction the shutdown aborted, and a machine without power tells nobody.
A full file system is stopped cleanly, searched by `dulse check` and made anew. Whatever it finds counts:
files that a creation or a compaction left over went with the start after the cut. The seed decides
lengths, actions and times, but not how threads interleave. A round with findings is the last.
"""

import argparse
import http.client
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from cut_disk import REFUSED, CutDisk, Unavailable, command  # noqa: E402
from known_needles import ABSENT, Needle, Sample, Tally, body_of, random_length, rng_of  # noqa: E402
from servers import ScriptError, Server, assign, get_json, say  # noqa: E402

VOLUME_BYTES = 8_000_000
MAX_VOLUMES = 24
# Beyond this the next round starts on an empty file system: volumes that are full take no new needles.
FULL_AT = 0.7
SERVER_FLAGS = (f"--volume-size-limit={VOLUME_BYTES}", f"--max-volumes={MAX_VOLUMES}", "--min-free-space=16MB")
FIDS_PER_ASSIGN = 20
# Needles of earlier rounds that each client goes on with.
TAKEN_OVER = 4
MAX_SAMPLE = 4000
CUT_AFTER_S = (0.2, 1.5)
# How long the server may go on without power, answering what it can.
KILLED_WITHIN_S = 0.03
# Tries to halt it between an append and its sync, and how long syncs get to end once it is halted.
STOP_ATTEMPTS = 150
SYNCS_END_S = 0.006
ANSWER_LIMIT_S = 30
CHECK_LIMIT_S = 120
VOLUME_FULL = 507
COUNTED = (
    "cuts",
    "cuts disk first",
    "cuts at once",
    "cuts mid-append",
    "appends caught",
    "written",
    "deleted",
    "refused, volume full",
    "errors without power",
    "under way",
    "took effect",
    "answered too late",
    "read right",
    "torn tails",
    "indexes made anew",
    "file systems",
    "searched by dulse check",
)
HEALTHY = ("writable", "read-only: full", "the disk is short of room")


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    signal.signal(signal.SIGALRM, lambda *_: give_up(options))
    signal.alarm(options.limit_s)
    directory = os.path.join(options.dir, "power-cuts")
    disk = CutDisk(directory)
    run = Run(options, directory, disk)
    say(f"seed {options.seed}")
    try:
        disk.attach()
        run.all_cuts()
    except Unavailable as error:
        say(f"power-cuts: {error}")
        sys.exit(REFUSED)
    finally:
        signal.alarm(0)
        run.end()
    run.report()


def give_up(options):
    raise ScriptError(f"not done within {options.limit_s} s (--limit-s)")


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--limit-s", type=int, default=3600)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


class Run:
    """The rounds, what they share, and what they add up to."""

    def __init__(self, options, directory, disk):
        self.options = options
        self.disk = disk
        self.before = os.path.join(directory, "before")
        self.log_path = os.path.join(directory, "server.log")
        self.log_seen = 0
        self.total = Tally()
        self.server = None
        self.evidence = None
        self.began = time.monotonic()

    def all_cuts(self):
        self.start_empty()
        for cut in range(1, self.options.cuts + 1):
            if self.is_full():
                self.finish()
                if self.total.findings:
                    return
                self.disk.make_anew()
                self.start_empty()
            self.one_cut(cut)
            if self.total.findings:
                self.keep_evidence(cut)
                return
        self.finish()

    def start_empty(self):
        """A new server on the empty file system, which knows none of the needles."""
        data = os.path.join(self.disk.mount_point, "data")
        self.server = Server("dulse", os.environ["DULSE"], data, SERVER_FLAGS)
        self.server.log_path = self.log_path
        self.sample = Sample(MAX_SAMPLE, rng_of(self.options.seed, "sample"))
        self.keys = Keys()
        self.server.start()
        self.total.count("file systems")

    def is_full(self):
        sizes = [volume["Size"] for volume in get_json(self.server.volume, "/status")["Volumes"]]
        return sum(sizes) > FULL_AT * VOLUME_BYTES * MAX_VOLUMES

    def one_cut(self, cut):
        tally, rng = Tally(), rng_of(self.options.seed, cut)
        clients = [
            Client(self, tally, rng_of(self.options.seed, cut, n), self.sample.take(TAKEN_OVER))
            for n in range(self.options.clients)
        ]
        after_s = self.write_and_cut(clients, tally, rng)
        self.look_at_log(tally)
        self.disk.restore()
        self.copy_files()
        ready_s = self.server.start()
        needles = [needle for client in clients for needle in client.needles]
        tally.count("under way", sum(needle.asked is not None for needle in needles))
        volumes = self.look_at_volumes(needles, tally)
        verify(self.server, needles + self.sample.needles, self.options.clients, tally)
        if tally["read right"] + len(tally.findings) < len(needles) + len(self.sample.needles):
            tally.find("not every needle was read")
        if not tally["written"]:
            tally.find("nothing was written")
        self.sample.add(needles)
        self.total.add(tally)
        self.total.count("cuts")
        say(
            f"cut {cut}/{self.options.cuts} after {after_s:.2f} s: acknowledged {tally['written']} writes and "
            f"{tally['deleted']} deletes, under way {tally['under way']} ({tally['took effect']} took effect), "
            f"back in {ready_s:.2f} s, {volumes} volumes, {tally['read right']} right, {len(tally.findings)} findings"
        )

    def write_and_cut(self, clients, tally, rng):
        """Lets the clients write until the power goes; returns when no process has files open."""
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        after_s = rng.uniform(*CUT_AFTER_S)
        time.sleep(after_s)
        self.power_off(clients, tally, rng)
        for thread in threads:
            thread.join(ANSWER_LIMIT_S)
            if thread.is_alive():
                tally.find("a client waits although its server is gone")
        return after_s

    def power_off(self, clients, tally, rng):
        """In one of three ways: the disk first, server and disk at once, or in the middle of an append."""
        way = rng.choice(("disk first", "at once", "mid-append"))
        tally.count(f"cuts {way}")
        if way == "mid-append" and self.stop_mid_append(rng):
            tally.count("appends caught")
            for path in self.files_with(".dat", ".idx"):
                self.disk.write_out_some(path, rng)
        for client in clients:
            client.is_over = True
        if way == "at once":
            self.server.process.kill()
        self.disk.cut()
        if way == "disk first":
            time.sleep(rng.uniform(0, KILLED_WITHIN_S))
        self.server.kill9()

    def stop_mid_append(self, rng):
        """Halts the server where a volume's file has pages that no sync has written; whether it could."""
        for _ in range(STOP_ATTEMPTS):
            self.server.process.send_signal(signal.SIGSTOP)
            time.sleep(SYNCS_END_S)
            if any(self.disk.dirty_pages(path) for path in self.files_with(".dat")):
                return True
            self.server.process.send_signal(signal.SIGCONT)
            time.sleep(rng.uniform(0, SYNCS_END_S))
        return False

    def files_with(self, *suffixes):
        names = os.listdir(self.server.directory)
        return [os.path.join(self.server.directory, name) for name in names if name.endswith(suffixes)]

    def look_at_log(self, tally):
        """Counts what the last start found; the errors of a server without power are its right."""
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            log.seek(self.log_seen)
            lines = log.readlines()
            self.log_seen = log.tell()
        tally.count("torn tails", sum("cutting a torn tail" in line for line in lines))
        tally.count("indexes made anew", sum("does not match the checkpoint" in line for line in lines))
        tally.count("errors without power", sum(" ERROR " in line for line in lines))

    def look_at_volumes(self, needles, tally):
        """After a start: no error in the log, every volume there and healthy."""
        self.server.wait_until("every volume is open", self.is_every_volume_known)
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            log.seek(self.log_seen)
            for line in log:
                if " ERROR " in line or "damage" in line:
                    tally.find(f"the server logs {line.strip()}")
        states = {volume["Id"]: volume["State"] for volume in get_json(self.server.volume, "/status")["Volumes"]}
        for number, state in states.items():
            if state not in HEALTHY:
                tally.find(f"volume {number} is {state}")
        for number in {needle.volume for needle in needles if needle.settled != ABSENT} - set(states):
            tally.find(f"volume {number} is gone")
        return len(states)

    def is_every_volume_known(self):
        """Whether no volume waits for the masters any more."""
        volumes = get_json(self.server.volume, "/status")["Volumes"]
        return volumes and not any("being resolved" in volume["State"] for volume in volumes)

    def copy_files(self):
        """The files as the cut has left them, for whoever looks into a finding."""
        shutil.rmtree(self.before, ignore_errors=True)
        command("cp", "--recursive", "--sparse=always", self.server.directory, self.before)

    def finish(self):
        """Stops cleanly and has every byte verified."""
        if self.server.stop() != 0:
            self.total.find("the server did not stop cleanly")
        self.total.findings += [f"dulse check: {code}: {text}" for code, text in check(self.server.directory)]
        if self.total.findings:
            self.copy_files()
            self.keep_evidence("check")
        self.total.count("searched by dulse check")

    def keep_evidence(self, cut):
        """Copies what is needed to understand a finding to where it stays."""
        self.evidence = tempfile.mkdtemp(prefix=f"dulse-power-cut-{cut}.")
        shutil.copy(self.log_path, self.evidence)
        shutil.move(self.before, os.path.join(self.evidence, "files-after-the-cut"))
        command("cp", "--recursive", "--sparse=always", self.server.directory, os.path.join(self.evidence, "files-now"))
        with open(os.path.join(self.evidence, "findings"), "w", encoding="utf-8") as file:
            file.write(f"seed {self.options.seed}, cut {cut}\n" + "\n".join(self.total.findings) + "\n")

    def end(self):
        if self.server:
            self.server.kill9()
        self.disk.detach()

    def report(self):
        notes = [f"{'took':24} {time.monotonic() - self.began:.0f} s"]
        if self.evidence:
            notes.append(f"seed {self.options.seed}; files and log are kept in {self.evidence}")
        self.total.report(COUNTED, notes)


def check(directory):
    """(code, text) of whatever `dulse check` finds in the data directory of a stopped server."""
    words = [os.environ["DULSE"], "check", "--json", directory]
    checked = subprocess.run(words, capture_output=True, text=True, timeout=CHECK_LIMIT_S, check=False)
    try:
        directory = json.loads(checked.stdout)["directories"][0]
    except (ValueError, LookupError) as error:
        raise ScriptError(f"dulse check: {error!r}: {checked.stdout[:500]}{checked.stderr[:500]}") from error
    for place in (directory, *directory["volumes"]):
        for finding in place["findings"]:
            yield finding["code"], finding["text"]


class Keys:
    """Every needle key that was handed out."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seen = set()

    def are_new(self, needles):
        keys = {needle.key for needle in needles}
        with self.lock:
            fresh = len(keys) == len(needles) and self.seen.isdisjoint(keys)
            self.seen |= keys
        return fresh


class Client:
    """Writes needles that nobody else writes, one request at a time on one connection."""

    def __init__(self, run, tally, rng, needles=()):
        self.server = run.server
        self.keys = run.keys
        self.tally = tally
        self.rng = rng
        self.needles = list(needles)
        self.usable = list(self.needles)
        self.fresh = []
        self.is_over = False
        self.connection = http.client.HTTPConnection(run.server.volume, timeout=ANSWER_LIMIT_S)

    def run(self):
        """Until the server is gone."""
        try:
            while self.write_one():
                pass
        except (OSError, http.client.HTTPException, ScriptError) as error:
            if not self.is_over:
                self.tally.find(f"no answer before the cut: {error!r}")
        except Exception as error:  # noqa: BLE001, a client that ends without a word proves nothing
            self.tally.find(f"a client failed: {error!r}")
        finally:
            self.connection.close()

    def write_one(self):
        """One request; whether another may follow."""
        needle = self.pick()
        if needle.settled != ABSENT and self.rng.random() < 0.25:
            needle.asked, method, body = ABSENT, "DELETE", None
        else:
            needle.asked, method = needle.next_version(self.length()), "PUT"
            body = body_of(needle.fid, needle.asked)
        self.connection.request(method, f"/{needle.fid}", body, {"Content-Type": "application/octet-stream"})
        response = self.connection.getresponse()
        answer = response.read()
        return self.take_answer(needle, method, response.status, answer)

    def length(self):
        return random_length(self.rng)

    def pick(self):
        """One of its needles, or a new one."""
        if self.usable and self.rng.random() < 0.4:
            return self.rng.choice(self.usable)
        if not self.fresh:
            self.fresh = [Needle(fid) for fid in assign(self.server, FIDS_PER_ASSIGN)]
            if not self.keys.are_new(self.fresh):
                self.tally.find(f"handed out twice: {[needle.fid for needle in self.fresh]}")
        needle = self.fresh.pop()
        self.needles.append(needle)
        self.usable.append(needle)
        return needle

    def take_answer(self, needle, method, status, answer):
        if status in ((202,) if method == "DELETE" else (201, 204)):
            if self.is_over:
                self.tally.count("answered too late")
                return False
            needle.answered()
            self.tally.count("deleted" if method == "DELETE" else "written")
            return True
        if status == VOLUME_FULL:
            needle.refused()
            self.usable.remove(needle)
            self.tally.count("refused, volume full")
            return True
        if not self.is_over:
            self.tally.find(f"{method} /{needle.fid}: {status} {answer[:300]!r}, it was {needle.settled}")
        return False


def verify(server, needles, readers, tally):
    """Reads every needle by many connections."""
    left = queue.SimpleQueue()
    for needle in needles:
        left.put(needle)

    def read_all():
        connection = http.client.HTTPConnection(server.volume, timeout=ANSWER_LIMIT_S)
        try:
            while True:
                verify_one(connection, left.get_nowait(), tally)
        except queue.Empty:
            pass
        except Exception as error:  # noqa: BLE001, whatever it is belongs into the report
            tally.find(f"no answer to a read: {error!r}")
        finally:
            connection.close()

    threads = [threading.Thread(target=read_all) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def verify_one(connection, needle, tally):
    connection.request("GET", f"/{needle.fid}")
    response = connection.getresponse()
    body = response.read()
    if response.status not in (200, 404):
        tally.find(f"/{needle.fid}: {response.status} {body[:300]!r}, it has to be {needle.may_be()}")
        return
    read = body if response.status == 200 else None
    asked = needle.asked
    if needle.settle(read):
        tally.count("read right")
        if asked is not None and needle.settled == asked:
            tally.count("took effect")
        return
    seen = ABSENT if read is None else f"{len(read)} bytes {read[:80]!r}"
    tally.find(f"/{needle.fid} is {seen}, it has to be {needle.may_be()}")


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
