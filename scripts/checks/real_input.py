"""Uploads real files by many clients at once, kills the server in the middle, reads everything back.

Half of the files go through the master's `/submit`, half are assigned a fid and put to the volume
server. The server is ended with SIGKILL three times and started again on the same directory. A
client whose upload was not answered 201 tries again under a fresh fid. Whatever was answered 201 has
to be read back with the same SHA-256, on the running server and again after a clean restart.
"""

import argparse
import hashlib
import http.client
import json
import os
import queue
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, request, say  # noqa: E402

MAX_FILE_BYTES = 100 * 1024 * 1024
# Longer than a restart takes on a slow machine.
RETRY_LIMIT_S = 120
RETRY_PAUSE_S = 0.02


def main():
    options = parse()
    files = real_files(options)
    total = sum(os.path.getsize(path) for path in files)
    say(f"{len(files)} files, {total / 2**20:.0f} MiB, the largest {max(map(os.path.getsize, files)) / 2**20:.1f} MiB")
    server = Server("dulse", os.environ["DULSE"], os.path.join(options.dir, "real-input", "data"))
    try:
        server.start()
        uploads = Uploads(server, files)
        began = time.monotonic()
        kills, restarts = upload_all(server, uploads, options)
        uploaded_s = time.monotonic() - began
        running = verify(server, uploads.stored, options.clients)
        if server.stop() != 0:
            raise ScriptError(f"the server did not stop cleanly\n{server.log_tail()}")
        server.start()
        again = verify(server, uploads.stored, options.clients)
    finally:
        server.kill9()
    report(files, uploads, kills, restarts, uploaded_s, (("after the kills", running), ("after a clean restart", again)))


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="append", help="a directory of files to upload; may be repeated")
    parser.add_argument("--at-least", type=int, default=5000)
    parser.add_argument("--at-most", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


def real_files(options):
    """The files, in an order that mixes the directories."""
    roots = options.files or default_roots()
    found = []
    for root in roots:
        for directory, _, names in os.walk(root):
            paths = (os.path.join(directory, name) for name in names)
            found += [path for path in paths if os.path.isfile(path) and os.path.getsize(path) <= MAX_FILE_BYTES]
    # The large ones first, so that a limit on the number keeps them; then in an order of no meaning.
    found.sort(key=os.path.getsize, reverse=True)
    large = found[: options.at_most // 100]
    rest = sorted(found[len(large) :], key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
    chosen = sorted((large + rest)[: options.at_most], key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
    if len(chosen) < options.at_least:
        raise ScriptError(f"{len(chosen)} files in {', '.join(roots)}, {options.at_least} wanted: name others with --files")
    return chosen


def default_roots():
    """Sources of the dependencies, and the compiler with its large libraries."""
    cargo = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
    return [os.path.join(cargo, "registry", "src"), sysroot.stdout.strip()]


class Uploads:
    """The work that is left and what is stored; shared by the clients."""

    def __init__(self, server, files):
        self.server = server
        self.left = queue.SimpleQueue()
        for item in enumerate(files):
            self.left.put(item)
        self.lock = threading.Lock()
        self.stored = {}
        self.retried = 0
        self.by_route = {"submit": 0, "assign + PUT": 0}
        self.failures = []

    def run_client(self):
        """Uploads one file after another until none is left."""
        while True:
            try:
                number, path = self.left.get_nowait()
            except queue.Empty:
                return
            try:
                self.upload(number, path)
            except Exception as error:  # noqa: BLE001, whatever it is belongs into the report
                with self.lock:
                    self.failures.append(f"{path}: {error!r}")

    def upload(self, number, path):
        with open(path, "rb") as file:
            body = file.read()
        route, send = ("submit", self.submit) if number % 2 else ("assign + PUT", self.assign_and_put)
        deadline = time.monotonic() + RETRY_LIMIT_S
        while True:
            try:
                fid = send(os.path.basename(path), body)
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise ScriptError(f"no success within {RETRY_LIMIT_S} s: {error}") from error
                with self.lock:
                    self.retried += 1
                time.sleep(RETRY_PAUSE_S)
                continue
            with self.lock:
                self.by_route[route] += 1
                if fid in self.stored:
                    self.failures.append(f"{path}: fid {fid} was handed out twice")
                self.stored[fid] = (hashlib.sha256(body).hexdigest(), len(body), path)
            return

    def submit(self, name, body):
        boundary = "b" + hashlib.sha256(body).hexdigest()[:30]
        safe = name.encode("utf-8", "replace").decode().replace('"', "%22")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n\r\n'
        form = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        status, _, answer = request(self.server.master, "POST", "/submit", form, headers)
        return self.accepted(status, answer, len(body))["fid"]

    def assign_and_put(self, _, body):
        status, _, answer = request(self.server.master, "GET", "/dir/assign")
        if status != 200:
            raise OSError(f"assign: {status} {answer[:200]!r}")
        assigned = json.loads(answer)
        headers = {"Content-Type": "application/octet-stream"}
        status, _, answer = request(assigned["url"], "PUT", f"/{assigned['fid']}", body, headers)
        self.accepted(status, answer, len(body))
        return assigned["fid"]

    @staticmethod
    def accepted(status, answer, length):
        """The answer of a successful upload; anything that may succeed later is an OSError."""
        if status == 201:
            body = json.loads(answer)
            if body.get("size") != length:
                raise ScriptError(f"{length} bytes were sent, the answer says {body}")
            return body
        if status in (500, 502, 503):
            raise OSError(f"{status} {answer[:200]!r}")
        raise ScriptError(f"{status} {answer[:300]!r}")


def upload_all(server, uploads, options):
    """Runs the clients; kills and restarts the server each time another part of the files is done."""
    total = uploads.left.qsize()
    clients = [threading.Thread(target=uploads.run_client, daemon=True) for _ in range(options.clients)]
    for client in clients:
        client.start()
    restarts = []
    for kill in range(1, options.kills + 1):
        while len(uploads.stored) < total * kill // (options.kills + 1):
            if not any(client.is_alive() for client in clients):
                raise ScriptError(f"the clients gave up: {uploads.failures[:5]}")
            time.sleep(0.005)
        server.kill9()
        say(f"kill {kill} after {len(uploads.stored)} files")
        restarts.append(server.start())
    for client in clients:
        client.join()
    return len(restarts), restarts


def verify(server, stored, clients):
    """Reads everything back: (right, wrong, missing, the first few complaints)."""
    items = queue.SimpleQueue()
    for item in stored.items():
        items.put(item)
    results, lock = {"right": 0, "wrong": 0, "missing": 0}, threading.Lock()
    complaints = []

    def read_all():
        while True:
            try:
                fid, (digest, length, path) = items.get_nowait()
            except queue.Empty:
                return
            outcome, detail = read_one(server, fid, digest, length)
            with lock:
                results[outcome] += 1
                if outcome != "right":
                    complaints.append(f"{outcome}: /{fid} ({path}): {detail}")

    readers = [threading.Thread(target=read_all) for _ in range(clients)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return results, complaints


def read_one(server, fid, digest, length):
    try:
        status, _, body = request(server.volume, "GET", f"/{fid}")
    except (OSError, http.client.HTTPException) as error:
        return "missing", repr(error)
    if status != 200:
        return "missing", f"{status} {body[:200]!r}"
    if hashlib.sha256(body).hexdigest() != digest:
        return "wrong", f"{len(body)} of {length} bytes"
    return "right", ""


def report(files, uploads, kills, restarts, seconds, readings):
    print(f"files            {len(files)}")
    for route, count in uploads.by_route.items():
        print(f"uploaded         {count} by {route}")
    print(f"retried          {uploads.retried}")
    print(f"gave up          {len(uploads.failures)}")
    print(f"kill -9          {kills}, each back within {', '.join(f'{s:.2f} s' for s in restarts)}")
    print(f"upload took      {seconds:.1f} s")
    bad = list(uploads.failures)
    for when, (counts, complaints) in readings:
        print(f"{when}: verified {counts['right']}, wrong {counts['wrong']}, missing {counts['missing']}")
        bad += complaints
    if len(uploads.stored) != len(files):
        bad.append(f"{len(uploads.stored)} of {len(files)} files are stored")
    for line in bad[:20]:
        print(line)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
