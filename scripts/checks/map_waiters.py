"""Holds thousands of requests for the volume map, makes a change, and measures when the last of them
is answered with it."""

import argparse
import json
import os
import re
import select
import socket
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, get_json, request, say  # noqa: E402

MAX_SPREAD_S = 1.0
# hyper keeps two buffers of 8 KiB for a connection, of each of which a page is in use.
MAX_BYTES_EACH = 16 * 2**10
CONNECTING_AT_ONCE = 200
ROUND_LIMIT_S = 20


class Waiter:
    """A client with one request held."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setblocking(False)
        self.address = address
        self.cursor = None
        self.received = b""

    def ask(self):
        head = f"GET /cluster/map?since={self.cursor}&wait=30 HTTP/1.1\r\nHost: {self.address}\r\n\r\n"
        self.socket.send(head.encode())
        self.received = b""

    def read(self):
        """The map, once all of it is there."""
        chunk = self.socket.recv(1 << 16)
        if not chunk:
            raise ScriptError("a master closed a connection that it held")
        self.received += chunk
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            raise ScriptError(f"a held request was answered {head[:200]!r}")
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
        return json.loads(body) if len(body) >= length else None


def main():
    options = parse()
    server = None
    if not options.masters:
        server = Server("dulse", os.environ["DULSE"], os.path.join(options.dir, "map", "data"), ["--max-volumes", "1000"])
        server.start()
        options.masters, options.pids = [server.master], [server.process.pid]
    try:
        held = measure(options)
    finally:
        if server:
            server.kill9()
    print("held" if held else "FAILED")
    sys.exit(0 if held else 1)


def parse():
    split = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiters", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--masters", type=split, default=[])
    parser.add_argument("--pids", type=split, default=[])
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


def measure(options):
    time.sleep(2)  # What the start leaves behind is given back.
    before = resident(options.pids)
    waiters = connect(options)
    settle(waiters)
    while_held = resident(options.pids)
    spreads = []
    for number in range(options.rounds):
        took, after_first, answered = change(options, waiters, number)
        say(f"round {number + 1}: {answered} reached {took * 1000:.0f} ms after the change was asked for, {after_first * 1000:.0f} ms after the first of them")
        spreads.append(after_first)
    cost = sum(while_held) - sum(before)
    each = cost / len(waiters)
    masters = "one master" if len(options.masters) == 1 else f"{len(options.masters)} masters"
    print(f"{len(waiters)} clients wait at {masters}; a change reaches the last of them {statistics.median(spreads) * 1000:.0f} ms after the first (median of {len(spreads)}), {max(spreads) * 1000:.0f} ms at worst")
    shown = ", ".join(f"{a / 2**20:.0f} to {b / 2**20:.0f}" for a, b in zip(before, while_held))
    print(f"resident memory of each master, before and while they wait: {shown} MiB; {each / 1024:.1f} KiB a client")
    return max(spreads) < MAX_SPREAD_S and each < MAX_BYTES_EACH


def resident(pids):
    sizes = []
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS:"))
        sizes.append(int(line.split()[1]) * 1024)
    return sizes


def connect(options):
    """All of them connected and waiting."""
    cursors = {address: get_json(address, "/cluster/map")["cursor"] for address in options.masters}
    waiters = []
    for number in range(options.waiters):
        waiter = Waiter(options.masters[number % len(options.masters)])
        waiter.cursor = cursors[waiter.address]
        waiter.ask()
        waiters.append(waiter)
        if number % CONNECTING_AT_ONCE == 0:
            time.sleep(0.005)
    return waiters


def settle(waiters):
    """Until nothing changes any more, and everybody waits for what comes next."""
    poll = poller(waiters)
    deadline, quiet_since = time.monotonic() + ROUND_LIMIT_S, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < 2:
        for waiter, told in answers(poll, waiters, 0.2):
            waiter.cursor = told["cursor"]
            waiter.ask()
            quiet_since = time.monotonic()


def change(options, waiters, number):
    """Has volumes made, and reads until all have heard of all of them."""
    poll = poller(waiters)
    started = time.monotonic()
    status, _, body = request(options.masters[0], "GET", f"/dir/assign?collection=round{os.getpid()}x{number}", timeout=15)
    if status != 200:
        raise ScriptError(f"assign: {status} {body[:200]!r}")
    reached, first, last = set(), None, started
    while len(reached) < len(waiters) and time.monotonic() - started < ROUND_LIMIT_S:
        for waiter, told in answers(poll, waiters, 0.2):
            if told["volumes"] and waiter not in reached:
                reached.add(waiter)
                last = time.monotonic()
                first = first or last
            waiter.cursor = told["cursor"]
            waiter.ask()
    if len(reached) < len(waiters):
        raise ScriptError(f"{len(waiters) - len(reached)} clients were not reached")
    settle(waiters)
    return last - started, last - first, len(reached)


def poller(waiters):
    poll = select.epoll()
    for number, waiter in enumerate(waiters):
        waiter.number = number
        poll.register(waiter.socket.fileno(), select.EPOLLIN)
    return poll


def answers(poll, waiters, limit_s):
    by_file = getattr(answers, "by_file", None)
    if by_file is None:
        by_file = answers.by_file = {waiter.socket.fileno(): waiter for waiter in waiters}
    for file, _ in poll.poll(limit_s, 1024):
        told = by_file[file].read()
        if told is not None:
            yield by_file[file], told


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        say(f"error: {error}")
        sys.exit(1)
