"""PUTs and GETs needles of 128 MB: speed beside SeaweedFS, memory, and what small PUTs feel of it.

Every run starts its server on an empty directory, one server at a time. Whatever is read is
compared byte by byte; any other answer than the right one ends the program with an error.
"""

import argparse
import multiprocessing
import os
import shutil
import socket
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, assign, say  # noqa: E402

KINDS = ("dulse", "weed")
PARTS = ("pairs", "memory", "small")
PUT_GOAL, GET_GOAL = 1.5, 0.9
MEMORY_GOAL_BYTES = 200 << 20
AT_ONCE = 4
# Each of the clients puts a small needle every so often, and is counted from when it should have:
# one that waits for its answer before it looks at the clock meets each stall with one PUT only.
SMALL_CLIENTS = 16
SMALL_EVERY_S = 0.1
SMALL_BYTES = 1024
SMALL_FIDS = 20_000
RECEIVE_BYTES = 1 << 20


def main():
    options = parse()
    scratch = os.path.join(options.dir, f"large-{os.getpid()}")
    os.makedirs(scratch)
    body = os.urandom(options.size)
    missed = []
    try:
        print(machine(options))
        for part in options.only:
            missed += {"pairs": pairs, "memory": memory, "small": small}[part](options, scratch, body)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("FAILED: " + "; ".join(missed) if missed else "held")
    sys.exit(1 if missed else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="paired runs; the median counts")
    parser.add_argument("--size-mb", type=float, default=128, help="of a large needle, in units of 2^20")
    parser.add_argument("--seconds", type=float, default=10, help="of each run with several clients")
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."), help="on the disk to measure")
    parser.add_argument("--only", choices=PARTS, action="append", help="leave the others out")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it work at all")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, 2
    options.size = int(options.size_mb * 2**20)
    options.only = options.only or list(PARTS)
    return options


def machine(options):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {model}, kernel {os.uname().release}; needles of {options.size} bytes"


class Running:
    """A server on an empty directory, killed and removed at the end."""

    def __init__(self, kind, scratch):
        self.directory = os.path.join(scratch, kind)
        self.server = Server(kind, os.environ[kind.upper()], os.path.join(self.directory, "data"))

    def __enter__(self):
        self.server.start()
        return self.server

    def __exit__(self, *_):
        self.server.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)


class Client:
    """One connection, with as little between it and the socket as possible: it shares the
    processors with the server."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.address = address
        self.socket = socket.create_connection((host, int(port)), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def put(self, fid, body):
        head = f"PUT /{fid} HTTP/1.1\r\nHost: {self.address}\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode())
        self.socket.sendall(body)
        status, length, rest = self._head()
        while len(rest) < length:
            rest += self._receive()
        if status != 201:
            raise ScriptError(f"PUT /{fid}: {status} {bytes(rest)!r}")

    def get(self, fid, buffer):
        """Fills `buffer`, which is as long as the needle."""
        self.socket.sendall(f"GET /{fid} HTTP/1.1\r\nHost: {self.address}\r\n\r\n".encode())
        status, length, rest = self._head()
        if status != 200 or length != len(buffer):
            raise ScriptError(f"GET /{fid}: {status}, {length} bytes: {bytes(rest[:200])!r}")
        buffer[: len(rest)] = rest
        view, filled = memoryview(buffer), len(rest)
        while filled < length:
            received = self.socket.recv_into(view[filled : filled + RECEIVE_BYTES])
            if received == 0:
                raise ScriptError(f"GET /{fid}: broke off after {filled} bytes")
            filled += received

    def _head(self):
        """Status, length of the body, and what came of it with the head."""
        received = self._receive()
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, rest = received.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), int(fields.get("content-length", 0)), bytearray(rest)

    def _receive(self):
        received = self.socket.recv(64 << 10)
        if not received:
            raise ScriptError("the server closed the connection")
        return received


def timed(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def pairs(options, scratch, body):
    """One client, one needle at a time, the servers in turn."""
    runs = {kind: [] for kind in KINDS}
    for number in range(1, options.rounds + 1):
        for kind in KINDS:
            with Running(kind, scratch) as server:
                runs[kind].append(put_and_get(server, body))
            put, get = runs[kind][-1]
            say(f"round {number} {kind:5}  put {put * 1000:6.0f} ms  get {get * 1000:6.0f} ms")
    print("\n| Verb | Server | Time | MB per second |\n|---|---|---|---|")
    missed = []
    for at, verb in enumerate(("put", "get")):
        for kind in KINDS:
            seconds = statistics.median(run[at] for run in runs[kind])
            print(f"| {verb} | {kind} | {seconds * 1000:.0f} ms | {len(body) / seconds / 1e6:.0f} |")
    for at, (verb, goal) in enumerate((("put", PUT_GOAL), ("get", GET_GOAL))):
        ratio = statistics.median(theirs[at] / ours[at] for ours, theirs in zip(runs["dulse"], runs["weed"]))
        print(f"\n{verb}: {ratio:.2f} times their speed, wanted at least {goal}")
        if ratio < goal:
            missed.append(f"{verb} at {ratio:.2f} times their speed")
    return missed


def put_and_get(server, body):
    """Seconds of a PUT and a GET, after one of each that does not count."""
    fids = assign(server, 2)
    buffer = bytearray(len(body))
    for fid in fids:
        with Client(server.volume) as client:
            put = timed(client.put, fid, body)
        with Client(server.volume) as client:
            get = timed(client.get, fid, buffer)
        if buffer != body:
            raise ScriptError(f"{server.kind}: /{fid} has other bytes than were put")
    return put, get


def memory(options, scratch, body):
    """The most memory that ours ever took while four PUTs and four GETs are always under way."""
    with Running("dulse", scratch) as server:
        fids = assign(server, 1000)
        known = fids.pop()
        with Client(server.volume) as client:
            client.put(known, body)
        before = server.resident_bytes()
        until, done, errors = time.monotonic() + options.seconds, {"put": 0, "get": 0}, []

        def repeat(verb, buffer):
            try:
                while time.monotonic() < until:
                    with Client(server.volume) as client:
                        client.put(fids.pop(), body) if verb == "put" else client.get(known, buffer)
                    if verb == "get" and buffer != body:
                        raise ScriptError("a GET brought other bytes than were put")
                    done[verb] += 1
            except (ScriptError, OSError) as error:
                errors.append(error)

        work = [(verb, bytearray(len(body))) for verb in ("put", "get") for _ in range(AT_ONCE)]
        threads = [threading.Thread(target=repeat, args=arguments) for arguments in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise ScriptError(f"{errors[0]}\n{server.log_tail()}")
        peak = peak_bytes(server)
    print(f"\nresident: {before / 2**20:.1f} MiB after one PUT, at most {peak / 2**20:.1f} MiB during {done['put']} PUTs "
          f"and {done['get']} GETs, {AT_ONCE} of each at a time; wanted below {MEMORY_GOAL_BYTES >> 20} MiB")
    return [] if peak < MEMORY_GOAL_BYTES else [f"{peak / 2**20:.0f} MiB resident"]


def peak_bytes(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) * 1024


def small(options, scratch, body):
    """1 kB PUTs at a steady pace, without and beside a client that puts one large needle after the
    other into the same volume."""
    print("\n| Small PUTs | p50 | p99 | Longest | Large needles meanwhile |\n|---|---|---|---|---|")
    with Running("dulse", scratch) as server:
        fids = assign(server, SMALL_FIDS)
        half = len(fids) // 2
        for name, share, size in (("alone", fids[:half], 0), ("beside large ones", fids[half:], len(body))):
            took, count = small_beside(server, share, size, options.seconds)
            took = sorted(took)
            at = lambda part: took[min(int(len(took) * part), len(took) - 1)] * 1000  # noqa: E731
            print(f"| {name} | {at(0.5):.2f} ms | {at(0.99):.1f} ms | {took[-1] * 1000:.0f} ms | {count} |")
    return []


def small_beside(server, fids, large_size, seconds):
    """Times of the small PUTs, and how many large ones were answered meanwhile."""
    count = multiprocessing.Value("i", 0)
    stop = multiprocessing.Event()
    process = None
    if large_size:
        process = multiprocessing.Process(target=put_large, args=(server.volume, fids[: len(fids) // 2], large_size, count, stop))
        process.start()
        while count.value == 0 and process.is_alive():
            time.sleep(0.01)
    before = count.value
    took = put_small(server.volume, fids[len(fids) // 2 :], seconds)
    during = count.value - before
    if process:
        stop.set()
        process.join()
        if process.exitcode != 0:
            raise ScriptError(f"a large PUT failed\n{server.log_tail()}")
    return took, during


def put_large(address, fids, size, count, stop):
    body = os.urandom(size)
    for fid in fids:
        if stop.is_set():
            return
        with Client(address) as client:
            client.put(fid, body)
        count.value += 1


def put_small(address, fids, seconds):
    """From when each was due until it was answered."""
    took, errors, body = [], [], os.urandom(SMALL_BYTES)
    start = time.perf_counter()

    def one_client(number):
        try:
            with Client(address) as client:
                due = start + number * SMALL_EVERY_S / SMALL_CLIENTS
                for fid in fids[number::SMALL_CLIENTS]:
                    if due > start + seconds:
                        return
                    time.sleep(max(due - time.perf_counter(), 0))
                    client.put(fid, body)
                    took.append(time.perf_counter() - due)
                    due += SMALL_EVERY_S
        except (ScriptError, OSError) as error:
            errors.append(error)

    threads = [threading.Thread(target=one_client, args=(number,)) for number in range(SMALL_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise ScriptError(f"a small PUT failed: {errors[0]}")
    return took


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
