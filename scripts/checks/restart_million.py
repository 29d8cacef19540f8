"""Opens one volume with a million needles of 1 kB: how long until it answers, how much memory.

Ready means that a needle of the volume is read from the outside. The memory for the index is what
the process takes with the volume open, less what it takes without any needle.
"""

import argparse
import os
import random
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, request, say  # noqa: E402
from wrk_load import Load, fresh_fids, write_body, write_needles  # noqa: E402

MAX_READY_S = 1.0
MAX_BYTES_PER_NEEDLE = 24


def main():
    options = parse()
    directory = os.path.join(options.dir, "restart-million")
    server = Server("dulse", os.environ["DULSE"], os.path.join(directory, "data"), ["--max-volumes=1"])
    body = os.path.join(directory, "body")
    try:
        server.start()
        write_body(body)
        empty = settled_memory(server)
        fids = write_needles(server, directory, body, options.needles)
        volumes = sum(name.endswith(".dat") for name in os.listdir(server.directory))
        if volumes != 1:
            raise ScriptError(f"{volumes} volumes were written, not one")
        probe = random.choice(fids)
        rows = []
        for how, end in (("a clean stop", server.stop), ("kill -9", server.kill9), ("kill -9 at work", None)):
            if end is None:
                kill_at_work(server, directory, body)
            else:
                end()
            seconds = time_to_read(server, probe, body)
            stored = server.file_count()
            rows.append((how, seconds, settled_memory(server), stored))
            say(f"after {how}: {seconds:.3f} s, {stored} needles")
    finally:
        server.kill9()
    report(options, empty, rows)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--needles", type=int, default=1_000_000)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


def settled_memory(server):
    """Resident memory once it stays the same, or after three seconds."""
    last = -1
    for _ in range(12):
        time.sleep(0.25)
        now = server.resident_bytes()
        if now == last:
            break
        last = now
    return now


def kill_at_work(server, directory, body):
    """Ends the server while puts are in flight."""
    server.wait_until("it assigns a fid", server.can_assign)
    fids = fresh_fids(server, 50_000)
    load = Load(server, directory, "puts", fids, 2, body=body)
    time.sleep(1)
    server.kill9()
    load.wait()


def time_to_read(server, fid, body_path):
    """Seconds from the start of the process until the needle is read."""
    with open(body_path, "rb") as file:
        body = file.read()

    def reads():
        status, _, stored = request(server.volume, "GET", f"/{fid}")
        if status == 200 and stored != body:
            raise ScriptError(f"/{fid}: other bytes than were stored")
        return status == 200

    server.start(wait=False)
    server.wait_until(f"/{fid} is read", reads)
    return time.monotonic() - server.started_at


def report(options, empty, rows):
    failed = False
    print(f"resident without needles: {empty / 2**20:.1f} MiB\n")
    print("| Restart after | Needles | Ready after | Resident | Bytes per needle |\n|---|---|---|---|---|")
    for how, seconds, resident, stored in rows:
        each = (resident - empty) / stored
        failed |= seconds >= MAX_READY_S or each > MAX_BYTES_PER_NEEDLE or stored < options.needles
        print(f"| {how} | {stored} | {seconds:.3f} s | {resident / 2**20:.1f} MiB | {each:.1f} |")
    print(f"\nwanted: ready in under {MAX_READY_S:.0f} s, at most {MAX_BYTES_PER_NEEDLE} bytes per needle: "
          + ("FAILED" if failed else "held"))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
