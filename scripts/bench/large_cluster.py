"""Measures one master of a large cluster beside one of a small cluster."""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from cluster import Node  # noqa: E402
from many_servers import ManyServers  # noqa: E402
from servers import ScriptError, free_port, get_json, request, say  # noqa: E402

# Goals.
MEMORY_MB = 150
RESTART_S = 2
ASSIGN_CHANGE = 0.2

LIMIT_S = 120
SMALL = (3, 3)
CONNECTIONS = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--volumes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    options = parser.parse_args()
    directory = os.path.join(options.dir, f"large-cluster-{os.getpid()}")
    clusters = {}
    try:
        for name, size in {"small": SMALL, "large": (options.servers, options.volumes)}.items():
            clusters[name] = Cluster(os.path.join(directory, name), *size)
            clusters[name].begin()
        missed = measure(clusters, options)
    finally:
        for cluster in clusters.values():
            cluster.close()
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if missed else 0)


class Cluster:
    """A master, and volume servers that are said to be there."""

    def __init__(self, directory, servers, volumes):
        self.size = servers * volumes
        port = free_port()
        os.makedirs(directory, exist_ok=True)
        self.master = Node("master", os.environ["DULSE"], os.path.join(directory, "master"), port,
                           [f"--port={port}"])
        self.many = ManyServers(servers, volumes)
        self.report = os.path.join(directory, "report")

    def begin(self):
        self.master.start()
        self.until("it leads", lambda: self.json("/cluster/status")["IsLeader"])
        began = time.monotonic()
        command = [os.environ["DULSE"], "cluster", "recover", f"--from={self.many.address()}",
                   f"--master={self.master.address}", "--json"]
        # One address speaks for all servers, so the others count as not asked and the exit code is 1.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.stdout or json.loads(done.stdout)["restored"] != self.size:
            raise ScriptError(f"not all volumes were taken over: {done.stdout[:300]} {done.stderr[:300]}")
        say(f"{self.size} volumes taken over in {time.monotonic() - began:.1f} s")
        self.many.report_to(self.master.cluster_address)
        self.until_whole()

    def until_whole(self):
        """Until all volumes are writable."""
        self.until("all volumes are there", self.is_whole)

    def is_whole(self):
        _, _, metrics = request(self.master.address, "GET", "/metrics")
        writable = re.search(rb"^dulse_volumes_writable (\d+)", metrics, re.MULTILINE)
        return writable and int(writable[1]) == self.size

    def until(self, what, probe):
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            try:
                if probe():
                    return
            except (OSError, ScriptError, KeyError, ValueError):
                pass
            time.sleep(0.02)
        raise ScriptError(f"not within {LIMIT_S} s: {what}\n{self.master.log_tail()}")

    def json(self, path):
        return get_json(self.master.address, path)

    def idle_cpu(self, seconds):
        """Processor seconds a second while nobody asks for anything."""
        before = self.master.cpu_seconds()
        time.sleep(seconds)
        return (self.master.cpu_seconds() - before) / seconds

    def assign_us(self, seconds):
        """Microseconds of the master's processor time for an assign, heartbeats not counted."""
        idle = self.idle_cpu(seconds)
        before = self.master.cpu_seconds()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s"]
        command += ["-s", os.path.join(HERE, "assign.lua"), f"http://{self.master.address}/dir/assign"]
        env = os.environ | {"REPORT": self.report}
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
        spent = self.master.cpu_seconds() - before
        with open(self.report, encoding="ascii") as file:
            counts = json.load(file)
        if counts["errors"] or counts["bad_status"]:
            raise ScriptError(f"requests failed: {counts}\n{self.master.log_tail()}")
        return (spent - idle * counts["seconds"]) / counts["requests"] * 1e6, idle

    def restart(self):
        """Seconds from the start after kill -9 until it says that it is ready, and until it assigns."""
        self.master.kill9()
        os.truncate(self.master.log_path, 0)
        began = time.monotonic()
        self.master.start()
        self.until("ready", lambda: "\nready\n" in self.master.log_tail())
        ready = time.monotonic() - began
        self.until("an assign", lambda: self.json("/dir/assign")["fid"])
        assigned = time.monotonic() - began
        self.until_whole()
        return ready, assigned

    def close(self):
        self.many.close()
        self.master.kill9()


def measure(clusters, options):
    costs = {name: [] for name in clusters}
    for number in range(options.rounds):
        for name, cluster in clusters.items():
            cost, idle = cluster.assign_us(options.seconds)
            costs[name].append(cost)
            say(f"round {number + 1} {name}: {cost:.1f} us an assign; heartbeats take {idle:.2f} of a processor")
    large = clusters["large"]
    memory = large.master.resident_bytes() / 1e6
    ready, assigned = large.restart()
    memory = max(memory, large.master.resident_bytes() / 1e6)
    change = statistics.median(costs["large"]) / statistics.median(costs["small"]) - 1
    print(f"{large.size} volumes: {memory:.0f} MB (at most {MEMORY_MB})")
    print(f"ready {ready:.2f} s after kill -9 (at most {RESTART_S}), assigns after {assigned:.2f} s")
    print(f"an assign takes {change:+.0%} processor time beside {clusters['small'].size} volumes (at most {ASSIGN_CHANGE:+.0%})")
    return memory > MEMORY_MB or ready > RESTART_S or change > ASSIGN_CHANGE


main()
