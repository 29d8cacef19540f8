"""Asks dulse and SeaweedFS for fids, one server after the other, several times, each on an empty
directory. The median of the rounds counts."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, say  # noqa: E402

# Goals: requests for each second of processor time, as a multiple of theirs.
WANTED = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    options = parser.parse_args()
    runs = {"dulse": [], "weed": []}
    for number in range(options.rounds):
        for kind, results in runs.items():
            directory = os.path.join(options.dir, f"assign-{kind}-{number}")
            results.append(one_run(kind, options, directory))
            say(f"round {number + 1} {kind:5} {describe(results[-1])}")
    median = {
        kind: {name: statistics.median(run[name] for run in results) for name in results[0]}
        for kind, results in runs.items()
    }
    for kind, result in median.items():
        print(f"{kind:5} {describe(result)}")
    ratio = median["dulse"]["per_cpu_s"] / median["weed"]["per_cpu_s"]
    p99 = median["weed"]["p99_ms"] / median["dulse"]["p99_ms"]
    print(f"dulse answers {ratio:.2f} times as many for each second of processor time; its p99 is {p99:.2f} times better")
    sys.exit(0 if ratio >= WANTED and p99 > 1 else 1)


def one_run(kind, options, directory):
    server = Server(kind, os.environ[kind.upper()], directory)
    server.start()
    try:
        load(server, options, directory, seconds=1)
        before = server.cpu_seconds()
        counts = load(server, options, directory, seconds=options.seconds)
        cpu_s = server.cpu_seconds() - before
        if counts["errors"] or (kind == "dulse" and counts["bad_status"]):
            raise ScriptError(f"requests failed: {counts}\n{server.log_tail()}")
        answered = counts["requests"] - counts["bad_status"]
        if not answered:
            raise ScriptError(f"{kind} answered nothing but errors")
        return {
            "per_cpu_s": answered / cpu_s,
            "per_s": answered / counts["seconds"],
            "p99_ms": counts["p99_ms"],
            "refused": counts["bad_status"],
        }
    finally:
        server.kill9()
        shutil.rmtree(directory, ignore_errors=True)


def load(server, options, directory, seconds):
    report = f"{directory}.report"
    command = ["wrk", "-t2", f"-c{options.connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", os.path.join(HERE, "assign.lua"), f"http://{server.master}/dir/assign"]
    env = os.environ | {"REPORT": report}
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    with open(report, encoding="ascii") as file:
        return json.load(file)


def describe(run):
    return (
        f"{run['per_cpu_s']:9.0f} requests a CPU second {run['per_s']:9.0f} a second   "
        f"p99 {run['p99_ms']:7.2f} ms   {run['refused']:.0f} refused"
    )


main()
