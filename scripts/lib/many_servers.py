"""Volume servers that exist in what they say only: many of them in one process, for a master's sake.

They hold volumes of one copy each, answer the recovery that has a master take these over, and report
twice a second. Nobody can write to them.
"""

import http.server
import json
import multiprocessing
import re
import socket
import threading
import time

CLUSTER = f"{0xC1:032x}"
INTERVAL_S = 0.5
ACKNOWLEDGED = re.compile(rb'"acknowledged":(\d+)')


class ManyServers:
    """`servers` of them, each with `volumes`."""

    def __init__(self, servers, volumes):
        self.servers, self.volumes = servers, volumes
        self.holder = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.holder.serve_forever, daemon=True).start()
        self.process = None

    def address(self):
        """Where all of them say what they hold."""
        return f"127.0.0.1:1.{self.holder.server_port}"

    def report_to(self, cluster_address):
        """Begins to report, in a process of its own."""
        arguments = (self.servers, self.volumes, cluster_address)
        self.process = multiprocessing.Process(target=_report, args=arguments, daemon=True)
        self.process.start()

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.holder.shutdown()

    def _handler(self):
        held = json.dumps(self._held()).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(held)))
                self.end_headers()
                self.wfile.write(held)

            def log_message(self, *_):
                pass

        return Handler

    def _held(self):
        volumes = []
        for server in range(1, self.servers + 1):
            member = _server_id(server)
            for volume in _ids(server, self.volumes):
                volumes.append({
                    "id": volume, "collection": "", "placement": "000", "ttl": "", "disk": "hdd",
                    "closed": False, "epoch": 1, "members": [{"server": member, "slot": 0}],
                    "state": {"is": "writable"}, "last_writable": {"epoch": 1, "members": [[member, 1]]},
                })
        return {
            "server": _server_id(1), "cluster": CLUSTER, "volumes": volumes, "masters": [], "left_out": [],
            "max_volume_id": self.servers * self.volumes, "max_key": 1_000_000,
        }


def _server_id(server):
    return f"{server:032x}"


def _ids(server, volumes):
    return range((server - 1) * volumes + 1, server * volumes + 1)


def _report(servers, volumes, cluster_address):
    voices = [_Voice(server, volumes) for server in range(1, servers + 1)]
    connection = None
    due = time.monotonic()
    while True:
        for voice in voices:
            try:
                connection = connection or _connect(cluster_address)
                voice.report(connection)
            except OSError:
                connection = None
                time.sleep(0.001)
        due = max(due + INTERVAL_S, time.monotonic() - INTERVAL_S)
        time.sleep(max(0, due - time.monotonic()))


def _connect(cluster_address):
    host, port = cluster_address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class _Voice:
    """What one server says."""

    def __init__(self, server, volumes):
        self.seq, self.base = 0, 0
        host = f"127.{server >> 16 & 255}.{server >> 8 & 255}.{server & 255}"
        common = {
            "server": _server_id(server), "incarnation": 1, "cluster": CLUSTER, "version": "0.1.0",
            "url": f"{host}:8080", "public_url": f"{host}:8080", "cluster_url": f"{host}:18080",
            "data_center": "", "rack": "", "gone": [], "foreign": [], "unserved": [],
            "max_key": 1_000_000, "stopping": False,
            "dirs": [{
                "dir": "/data", "disk": "hdd", "max_volumes": 2 * volumes, "volumes": volumes,
                "total_bytes": 1 << 43, "free_bytes": 1 << 42, "is_low": False,
            }],
        }
        reports = [self._report_of(volume) for volume in _ids(server, volumes)]
        self.brief = json.dumps(common | {"volumes": []})[:-1]
        self.full = json.dumps(common | {"volumes": reports})[:-1]

    @staticmethod
    def _report_of(volume):
        return {
            "id": volume, "collection": "", "placement": "000", "ttl": "", "disk": "hdd", "device": 1,
            "epoch": 1, "size_bytes": volume % 100 << 27, "live_needles": 1000, "live_bytes": 10_000_000,
            "garbage_needles": 0, "garbage_bytes": 0, "compaction_revision": 0, "modified_at_secs": 0,
            "local": "ready",
        }

    def report(self, connection):
        self.seq += 1
        said = self.brief if self.base else self.full
        body = f'{said},"seq":{self.seq},"since":{self.base}}}'.encode()
        head = f"POST /heartbeat HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        status, answer = _answer(connection)
        self.base = self.seq
        if status != 200 or int(ACKNOWLEDGED.search(answer)[1]) != self.seq:
            self.base = 0


def _answer(connection):
    """The status and the body of one answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _received(connection)
    head, body = received.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(body) < length:
        body += _received(connection)
    return int(head.split(b" ", 2)[1]), body


def _received(connection):
    data = connection.recv(1 << 16)
    if not data:
        raise OSError("the master closed the connection")
    return data
