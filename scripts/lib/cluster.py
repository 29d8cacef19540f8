"""Several masters and volume servers as processes on loopback, and clients that ask for fids.

A client tries all masters in turn, the one that answered last first, until one gives it a fid.
"""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from typing import NamedTuple

from process import ScriptError, ServerProcess
from servers import free_port, get_json, request

READY_LIMIT_S = 60
# A client gives a master that does not answer up after this long and asks the next.
TRY_S = 1
# What no master answers within this time has failed.
GIVE_UP_S = 10


class Node(ServerProcess):
    """One process: a master, a volume server, or both."""

    def __init__(self, role, program, directory, port, flags, host="127.0.0.1", prefix=()):
        self.address = f"{host}:{port}"
        self.name = f"{role} {self.address}"
        self.cluster_address = f"{host}:{port + 10000}"
        self.directory = directory
        self.log_path = f"{directory}.log"
        self.command = [*prefix, program, role, f"--dir={directory}", *flags]
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("DULSE_")}
        self.process = None

    def start(self):
        os.makedirs(self.directory, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.env)

    def signal(self, number):
        self.process.send_signal(number)


class Cluster:
    """Masters that know each other, and volume servers that know all of them."""

    def __init__(self, program, directory, masters=3, volume_servers=3):
        ports = _distinct_ports(masters + volume_servers)
        self.peers = ",".join(f"127.0.0.1:{port}" for port in ports[:masters])
        self.masters = [
            Node("master", program, os.path.join(directory, f"master-{port}"), port,
                 [f"--port={port}", f"--peers={self.peers}"])
            for port in ports[:masters]
        ]
        self.volume_servers = [
            Node("volume", program, os.path.join(directory, f"volume-{port}"), port,
                 [f"--port={port}", f"--master={self.peers}", "--max-volumes=100"])
            for port in ports[masters:]
        ]

    def start(self):
        for node in (*self.masters, *self.volume_servers):
            node.start()
        self.wait_until_whole()
        self.wait_until("somebody assigns", lambda: self.assigns(self.leader()))

    def kill_all(self):
        for node in (*self.masters, *self.volume_servers):
            if node.process is not None:
                node.signal(signal.SIGCONT)
                node.kill9()

    def leader(self):
        """The master that says it leads; none while nobody does."""
        for master in self.masters:
            status = _try_json(master.address, "/cluster/status")
            if status and status["IsLeader"]:
                return master
        return None

    def wait_for_leader(self):
        return self.wait_until("a master leads", self.leader)

    def wait_until_whole(self):
        """Until every master knows a leader, and the leader heard all others a moment ago."""
        self.wait_until("all masters are there", self._is_whole)

    def _is_whole(self):
        statuses = [_try_json(master.address, "/cluster/status") for master in self.masters]
        if not all(status and status["Leader"] for status in statuses):
            return False
        leader = self.leader()
        page = leader and _try_json(leader.address, "/ui/status.json")
        others = [m for m in page["masters"] if not m["is_this_one"]] if page else []
        return len(others) == len(self.masters) - 1 and all(
            m.get("heard_ms", 10_000) < 300 and m.get("entries_behind", 10_000) < 10 for m in others
        )

    def assigns(self, master):
        return bool(master and _try_json(master.address, "/dir/assign"))

    def wait_until(self, what, probe, limit_s=READY_LIMIT_S):
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            found = probe()
            if found:
                return found
            time.sleep(0.01)
        tails = "\n".join(f"== {node.address}\n{node.log_tail()}" for node in self.masters)
        raise ScriptError(f"not within {limit_s} s: {what}\n{tails}")

    def transfer(self):
        """Has the leader hand over to any other master."""
        body = json.dumps({"transfer": None})
        headers = {"Content-Type": "application/json"}
        master = self.masters[0]
        status, _, answer = request(master.cluster_address, "POST", "/admin/masters", body, headers)
        if status != 200:
            raise ScriptError(f"no transfer: {status} {answer[:300]!r}")


class Assigned(NamedTuple):
    """A fid that a client got: when it first asked, when it had it, and from where."""

    asked: float
    got: float
    volume: int
    key: int
    master: str


class AssignClient(threading.Thread):
    """Asks for one fid after the other until told to stop. `enter` is called in its thread first."""

    def __init__(self, cluster, first, pause_s=0.001, enter=lambda: None):
        super().__init__(daemon=True)
        self.enter = enter
        self.addresses = [master.address for master in cluster.masters]
        self.preferred = first % len(self.addresses)
        self.pause_s = pause_s
        self.assigned = []
        self.failed = []
        self.stopping = threading.Event()
        self.connections = {}

    def run(self):
        self.enter()
        while not self.stopping.is_set():
            self._one()
            time.sleep(self.pause_s)

    def _one(self):
        asked = time.monotonic()
        while time.monotonic() - asked < GIVE_UP_S:
            for turn in range(len(self.addresses)):
                index = (self.preferred + turn) % len(self.addresses)
                fid = self._try(self.addresses[index])
                if fid:
                    self.preferred = index
                    volume, rest = fid.split(",")
                    got = time.monotonic()
                    address = self.addresses[index]
                    self.assigned.append(Assigned(asked, got, int(volume), int(rest[:-8], 16), address))
                    return
            time.sleep(0.005)
        self.failed.append(asked)

    def _try(self, address):
        connection = self.connections.pop(address, None)
        if connection is None:
            host, port = address.split(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=TRY_S)
        try:
            connection.request("GET", "/dir/assign")
            response = connection.getresponse()
            body = response.read()
            if response.status == 200:
                self.connections[address] = connection
                return json.loads(body)["fid"]
        except (OSError, http.client.HTTPException):
            pass
        connection.close()
        return None


def _try_json(address, path):
    try:
        return get_json(address, path, timeout=1)
    except (OSError, http.client.HTTPException, ScriptError):
        return None


def _distinct_ports(count):
    ports = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)
