"""Loads that wrk puts on a server: needles stored, read or deleted from lists of fids."""

import json
import os
import random
import subprocess

from servers import ScriptError, assign, say

BODY_BYTES = 1024
# wrk sleeps to the end of its time even when the work is done, so it is given in slices.
SLICE_S = 10
CONNECTIONS = 64
THREADS = 2
FIDS_PER_ASSIGN = 10_000
LUA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench")


def write_body(path):
    """What every needle of these loads holds."""
    with open(path, "wb") as file:
        file.write(random.randbytes(BODY_BYTES))


def fresh_fids(server, count):
    """At least that many fids of one volume or several."""
    fids = []
    while len(fids) < count:
        fids += assign(server, FIDS_PER_ASSIGN)
    return fids


class Load:
    """wrk at work: each fid once, or with `script` get.lua in random order, again and again.

    With `pace_ms` each connection pauses for about that long before a request.
    """

    def __init__(self, server, directory, name, fids, seconds, *, script="put.lua", method="PUT", body="",
                 connections=CONNECTIONS, pace_ms=0):
        self.server, self.fids, self.seconds = server, fids, seconds
        paths = {kind: os.path.join(directory, f"{name}.{kind.lower()}") for kind in ("FIDS", "REPORT")}
        with open(paths["FIDS"], "w", encoding="ascii") as file:
            file.write("".join(fid + "\n" for fid in fids))
        command = ["wrk", f"-t{THREADS}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        command += ["-s", os.path.join(LUA, script), f"http://{server.volume}"]
        env = os.environ | paths | {"BODY": body, "METHOD": method, "THREADS": str(THREADS)}
        if pace_ms:
            env["PACE_MS"] = str(pace_ms)
        self.report = paths["REPORT"]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)

    def wait(self):
        """Waits for wrk to end; whether it ended well."""
        return self.process.wait(timeout=self.seconds + 60) == 0

    def counts(self):
        """What wrk counted; an error if a request failed."""
        if not self.wait():
            raise ScriptError("wrk failed")
        with open(self.report, encoding="ascii") as file:
            counts = json.load(file)
        if counts["bad_status"] or counts["errors"]:
            raise ScriptError(f"requests failed: {counts}\n{self.server.log_tail()}")
        return counts

    def split(self, used):
        """The fids that were certainly answered, and those that were never sent.

        A load that ends leaves up to one unanswered request on each connection, and wrk asks for one
        that it never sends: those fids are in neither list.
        """
        answered, left = [], []
        for thread in range(THREADS):
            own = self.fids[thread::THREADS]
            answered += own[1 : max(used[thread] - CONNECTIONS, 1)]
            left += own[used[thread] :]
        return answered, left


def write_needles(server, directory, body, needles):
    """Stores at least that many needles; the fids that were certainly answered."""
    left, answered = fresh_fids(server, needles + needles // 10), []
    while server.file_count() < needles:
        load = Load(server, directory, "puts", left, SLICE_S, body=body)
        written, left = load.split(load.counts()["used"])
        answered += written
        say(f"{server.file_count()} needles stored")
    return answered
