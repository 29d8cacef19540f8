"""Starts `dulse server` on an empty directory: when is the first write answered 201, and how much
memory does it take when nothing happens."""

import argparse
import http.client
import json
import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, request  # noqa: E402

MAX_FIRST_WRITE_S = 0.300
MAX_IDLE_BYTES = 40 * 2**20
IDLE_S = 3


def main():
    options = parse()
    times, memory = [], []
    for number in range(options.runs):
        server = Server("dulse", os.environ["DULSE"], os.path.join(options.dir, f"start-{number}", "data"))
        try:
            times.append(first_write(server))
            time.sleep(IDLE_S)
            memory.append(server.resident_bytes())
        finally:
            server.kill9()
    shown = ", ".join(f"{seconds * 1000:.0f}" for seconds in times)
    print(f"first write after start: {shown} ms, median {statistics.median(times) * 1000:.0f} ms, wanted under {MAX_FIRST_WRITE_S * 1000:.0f} ms")
    print(f"resident when idle: at most {max(memory) / 2**20:.1f} MiB, wanted under {MAX_IDLE_BYTES / 2**20:.0f} MiB")
    held = statistics.median(times) < MAX_FIRST_WRITE_S and max(memory) < MAX_IDLE_BYTES
    print("held" if held else "FAILED")
    sys.exit(0 if held else 1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


def first_write(server):
    """Seconds from the start of the process until a PUT is answered 201."""
    server.start(wait=False)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            status, _, body = request(server.master, "GET", "/dir/assign")
            if status == 200:
                assigned = json.loads(body)
                status, _, _ = request(assigned["url"], "PUT", f"/{assigned['fid']}", b"first")
                if status == 201:
                    return time.monotonic() - server.started_at
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.001)
    raise ScriptError(f"no write within 30 s\n{server.log_tail()}")


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
