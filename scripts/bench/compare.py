"""Puts and gets 1 kB needles on dulse and on SeaweedFS, one after the other, several times.

Every run starts its server on an empty directory, so that neither measures beside the other. A run
counts only if every answer was a success and every put stored a new needle; otherwise the program
ends with an error and no table.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, assign, request, say  # noqa: E402

# More than any server here can store on two cores; a run that uses them up fails.
FIDS_PER_SECOND = 80_000
# Asked for at once with `count=`; they lie in one volume.
FIDS_PER_ASSIGN = 2_000
SAMPLE = 200
KINDS = ("dulse", "weed")


def main():
    options = parse()
    scratch = os.path.join(options.dir, f"bench-{os.getpid()}")
    os.makedirs(scratch)
    try:
        runs = {kind: [] for kind in options.only}
        for round_number in range(1, options.rounds + 1):
            for kind in options.only:
                run = one_run(kind, options, os.path.join(scratch, f"{kind}-{round_number}"))
                runs[kind].append(run)
                say(f"round {round_number} {kind:5}  " + "  ".join(line(verb, run[verb]) for verb in run))
        print_tables(options, runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="paired runs; the median counts")
    parser.add_argument("--size", type=int, default=1024, help="bytes of a needle")
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."), help="on the disk to measure")
    parser.add_argument("--spread", action="store_true", help="each put to another volume than the one before")
    parser.add_argument("--fsync", action="store_true", help="theirs puts with fsync=true, so that both are durable")
    parser.add_argument("--submit", action="store_true", help="uploads by /submit alone: each gets a fid of its own")
    parser.add_argument("--only", choices=KINDS, action="append", help="leave the other server out")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it work at all")
    options = parser.parse_args()
    if options.submit and (options.fsync or options.spread):
        parser.error("--submit uploads without fids of ours: --fsync and --spread do nothing to it")
    if options.smoke:
        options.rounds, options.seconds = 1, 1
    options.threads = min(options.threads, options.connections)
    options.only = options.only or list(KINDS)
    return options


def one_run(kind, options, directory):
    """The measurements on a fresh server: {"put": …, "get": …}, or {"submit": …}."""
    server = Server(kind, os.environ[kind.upper()], os.path.join(directory, "data"))
    try:
        server.start()
        body = os.path.join(directory, "body")
        with open(body, "wb") as file:
            file.write(random.randbytes(options.size))
        if options.submit:
            return {"submit": measure_submits(server, options, directory, body)}
        fids = fresh_fids(server, options.seconds * FIDS_PER_SECOND, options.spread)
        put, written = measure_puts(server, options, directory, fids, body)
        check_sample(server, written, body)
        get = measure_gets(server, options, directory, written)
        return {"put": put, "get": get}
    finally:
        server.kill9()
        shutil.rmtree(directory, ignore_errors=True)


def fresh_fids(server, count, spread):
    """Fids as `assign?count=N` hands them out; with `spread`, those of many volumes in turn, as
    they come when every upload asks for a fid of its own."""
    fids = []
    while len(fids) < count:
        fids.extend(assign(server, FIDS_PER_ASSIGN))
    if not spread:
        return fids
    batches = [fids[at : at + FIDS_PER_ASSIGN] for at in range(0, len(fids), FIDS_PER_ASSIGN)]
    return [fid for column in zip(*batches) for fid in column]


def measure_submits(server, options, directory, body):
    stored_before = server.file_count()
    assign(server, 1)  # volumes are there
    report = wrk(server, options, directory, "submit.lua", [], {"BODY": body}, server.master)
    check_count(server, options, report, stored_before)
    return report


def measure_puts(server, options, directory, fids, body):
    stored_before = server.file_count()
    query = "?fsync=true" if options.fsync and server.kind == "weed" else ""
    report = wrk(server, options, directory, "put.lua", fids, {"BODY": body, "QUERY": query})
    if report["exhausted"]:
        raise ScriptError("the fids were used up: raise FIDS_PER_SECOND")
    # wrk asks for one request that it never sends, and what it sent last may not have been answered.
    answered = [slice(1, max(used - options.connections, 1)) for used in report["used"]]
    written = [fid for t, part in enumerate(answered) for fid in fids[t :: options.threads][part]]
    check_count(server, options, report, stored_before)
    return report, written


def check_count(server, options, report, stored_before):
    """Each answered upload stored a new needle."""
    stored = settled_count(server, stored_before + report["requests"]) - stored_before
    if not report["requests"] <= stored <= report["requests"] + options.connections:
        raise ScriptError(f"{server.kind}: {report['requests']} uploads answered, {stored} needles stored")


def settled_count(server, expected):
    """The needle count, once what was in flight when wrk stopped is counted too."""
    deadline = time.monotonic() + 2
    while (count := server.file_count()) < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return count


def measure_gets(server, options, directory, written):
    report = wrk(server, options, directory, "get.lua", written, {})
    if report["bytes"] < report["requests"] * options.size:
        raise ScriptError(f"{server.kind}: {report['requests']} reads brought only {report['bytes']} bytes")
    return report


def wrk(server, options, directory, script, fids, env, address=None):
    """One run of wrk, at the volume server if no other is named; its report with the server's
    processor time per request."""
    paths = {"FIDS": os.path.join(directory, "fids"), "REPORT": os.path.join(directory, "report")}
    with open(paths["FIDS"], "w", encoding="ascii") as file:
        file.write("".join(fid + "\n" for fid in fids))
    command = [
        "wrk", f"-t{options.threads}", f"-c{options.connections}", f"-d{options.seconds}s",
        "--timeout", "10s", "-s", os.path.join(HERE, script), f"http://{address or server.volume}",
    ]
    env = os.environ | paths | env | {"THREADS": str(options.threads)}
    before = server.cpu_seconds()
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=options.seconds + 60)
    cpu = server.cpu_seconds() - before
    if result.returncode != 0:
        raise ScriptError(f"wrk failed: {result.stderr}{result.stdout}")
    with open(paths["REPORT"], encoding="ascii") as file:
        report = json.load(file)
    if report["errors"] or report["bad_status"] or not report["requests"]:
        raise ScriptError(f"{server.kind} {script}: {report}\n{server.log_tail()}")
    report["cpu_us"] = cpu / report["requests"] * 1e6
    report["rps"] = report["requests"] / report["seconds"]
    return report


def check_sample(server, written, body_path):
    """A sample of what was put is there, with its bytes."""
    with open(body_path, "rb") as file:
        body = file.read()
    for fid in random.sample(written, min(SAMPLE, len(written))):
        status, _, stored = request(server.volume, "GET", f"/{fid}")
        if status != 200 or stored != body:
            raise ScriptError(f"{server.kind}: /{fid} answered {status} with {len(stored)} bytes")


def line(verb, report):
    return f"{verb} {report['rps']:8.0f}/s {report['cpu_us']:6.1f} us CPU, p99 {report['p99_ms']:6.2f} ms"


def median(runs, verb, figure):
    return statistics.median(run[verb][figure] for run in runs)


def print_tables(options, runs):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    disk = subprocess.run(["df", "--output=fstype", options.dir], capture_output=True, text=True, check=True)
    print(f"{os.cpu_count()} x {model}, {disk.stdout.split()[-1]}, kernel {os.uname().release}; wrk with "
          f"{options.connections} connections, {options.size} byte needles, {options.seconds} s a measurement, "
          f"median of {options.rounds} paired runs{', puts spread over volumes' if options.spread else ''}"
          f"{', theirs with fsync=true' if options.fsync else ''}.\n")
    print("| Verb | Server | CPU per request | Requests per second | p50 | p99 |")
    print("|---|---|---|---|---|---|")
    verbs = ("submit",) if options.submit else ("put", "get")
    for verb in verbs:
        for kind in options.only:
            of = lambda figure: median(runs[kind], verb, figure)  # noqa: E731
            print(f"| {verb} | {kind} | {of('cpu_us'):.1f} us | {of('rps'):.0f} | {of('p50_ms'):.2f} ms | {of('p99_ms'):.2f} ms |")
    if set(options.only) == set(KINDS):
        print()
        for verb in verbs:
            cpu = paired(runs, verb, "cpu_us", lambda ours, theirs: theirs / ours)
            rps = paired(runs, verb, "rps", lambda ours, theirs: ours / theirs)
            p99 = paired(runs, verb, "p99_ms", lambda ours, theirs: theirs / ours)
            print(f"{verb}: {cpu:.2f} times theirs per CPU second, {rps:.2f} times their requests per second, "
                  f"p99 {p99:.2f} times better")


def paired(runs, verb, figure, ratio):
    pairs = zip(runs["dulse"], runs["weed"])
    return statistics.median(ratio(ours[verb][figure], theirs[verb][figure]) for ours, theirs in pairs)


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
