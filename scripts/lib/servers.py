"""Starts and stops the servers that the scripts compare, and measures them from outside.

Each server has its own directory and its own loopback ports, is waited for with a deadline, and is
ended by its process id. Nothing here knows what a script proves.
"""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time

from process import ScriptError, ServerProcess

READY_LIMIT_S = 60


def say(text):
    """A line for people, on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def free_port():
    """A port that is free, and so is the one 10,000 above it, both below the kernel's own range."""
    while True:
        port = random.randrange(12000, 22000)
        if all(_is_free(p) for p in (port, port + 10000)):
            return port


def _is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def request(address, method, path, body=None, headers=None, timeout=60):
    """One request on its own connection: (status, headers, body)."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def get_json(address, path, timeout=60):
    """The JSON body of a GET that must succeed."""
    status, _, body = request(address, "GET", path, timeout=timeout)
    if status != 200:
        raise ScriptError(f"GET http://{address}{path}: {status} {body[:200]!r}")
    return json.loads(body)


class Server(ServerProcess):
    """One process that is a master and a volume server: `dulse server` or `weed server`."""

    def __init__(self, kind, program, directory, extra=(), env=None):
        self.kind = self.name = kind
        self.directory = directory
        self.master_port = free_port()
        self.volume_port = free_port()
        while self.volume_port == self.master_port:
            self.volume_port = free_port()
        self.master = f"127.0.0.1:{self.master_port}"
        self.volume = f"127.0.0.1:{self.volume_port}"
        self.log_path = os.path.join(os.path.dirname(directory), f"{os.path.basename(directory)}.log")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("DULSE_")}
        self.env.update(env or {})
        arguments = _dulse_arguments if kind == "dulse" else _weed_arguments
        self.command = [program, *arguments(self), *extra]
        self.process = None
        self.started_at = None

    def start(self, wait=True):
        """Starts the process; with `wait`, returns when it can assign, and says how long it took."""
        os.makedirs(self.directory, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.env)
        if wait:
            self.wait_until("it assigns a fid", self.can_assign)
        return time.monotonic() - self.started_at

    def can_assign(self):
        status, _, body = request(self.master, "GET", "/dir/assign", timeout=15)
        return status == 200 and b'"fid"' in body

    def wait_until(self, what, probe, limit_s=READY_LIMIT_S):
        """Polls `probe`, whose failures to connect count as no, until it says yes."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ScriptError(f"{self.kind} ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                if probe():
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.002)
        raise ScriptError(f"{self.kind}: not within {limit_s} s: {what}\n{self.log_tail()}")

    def file_count(self):
        """Needles stored since the volumes began, overwritten and deleted ones included."""
        status = get_json(self.volume, "/status")
        return sum(volume.get("FileCount", 0) for volume in status.get("Volumes") or [])


def _dulse_arguments(server):
    return [
        "server",
        f"--dir={server.directory}",
        f"--master-port={server.master_port}",
        f"--volume-port={server.volume_port}",
    ]


def _weed_arguments(server):
    return [
        "server",
        f"-dir={server.directory}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={server.master_port}",
        f"-volume.port={server.volume_port}",
        "-volume.max=1000",
        "-volume.preStopSeconds=0",
        "-master.telemetry=false",
    ]


def assign(server, count):
    """The fids of one assign, spelled out: same volume and cookie, keys in sequence."""
    answer = get_json(server.master, f"/dir/assign?count={count}")
    volume, rest = answer["fid"].split(",")
    key, cookie = int(rest[:-8], 16), rest[-8:]
    return [f"{volume},{_key_hex(key + n)}{cookie}" for n in range(int(answer["count"]))]


def _key_hex(key):
    text = f"{key:x}"
    return text if len(text) % 2 == 0 else "0" + text
