"""Takes the leader away under clients that ask for fids, and holds times and fids against the goals.

Keys grow from leader to leader, because every leader hands out what was granted to it alone. So a fid
with a lower key than the successor's first tells that the deposed leader handed it out.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from cluster import AssignClient, Cluster  # noqa: E402
from servers import ScriptError, say  # noqa: E402

CLIENTS = 6
PAUSE_S = 5
# Goals, in milliseconds.
MEDIAN_MS, WORST_MS = 700, 1500
GAP_P99_MS, GAP_WORST_MS = 100, 300


def main():
    options = parse()
    say(f"seed {options.seed}")
    random.seed(options.seed)
    cluster = Cluster(os.environ["DULSE"], options.dir)
    try:
        cluster.start()
        run = Run(cluster)
        run.kills(options.kills)
        run.pauses(options.pauses)
        run.restarts(options.restarts)
        run.transfers(options.transfers)
        run.finish()
    except ScriptError as error:
        say(str(error))
        sys.exit(1)
    finally:
        cluster.kill_all()
    sys.exit(1 if run.findings else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pauses", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=6)
    parser.add_argument("--transfers", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


class Run:
    """The clients, and what was found so far."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.clients = [AssignClient(cluster, n) for n in range(CLIENTS)]
        for client in self.clients:
            client.start()
        self.findings = []

    def find(self, text):
        say(f"FINDING: {text}")
        self.findings.append(text)

    def settle(self):
        self.cluster.wait_until_whole()
        time.sleep(random.uniform(0.1, 0.6))

    def assigned_after(self, moment):
        """The first fid that a client had asked for after `moment`, once there is one."""

        def probe():
            later = [a for client in self.clients for a in client.assigned[-50:] if a.asked >= moment]
            return min(later, key=lambda a: a.got, default=None)

        return self.cluster.wait_until("a fid after the leader is gone", probe, limit_s=30)

    def kills(self, count):
        times = []
        for _ in range(count):
            self.settle()
            leader = self.cluster.wait_for_leader()
            moment = time.monotonic()
            leader.kill9()
            times.append(1000 * (self.assigned_after(moment).got - moment))
            leader.start()
        self.judge("kill -9 of the leader", times)

    def pauses(self, count):
        times = []
        for _ in range(count):
            self.settle()
            leader = self.cluster.wait_for_leader()
            moment = time.monotonic()
            leader.signal(signal.SIGSTOP)
            first = self.assigned_after(moment)
            times.append(1000 * (first.got - moment))
            time.sleep(max(0, moment + PAUSE_S - time.monotonic()))
            successors = [a.key for a in self.all_assigned() if moment <= a.asked and a.got < time.monotonic()]
            resumed = time.monotonic()
            leader.signal(signal.SIGCONT)
            # Straight to the deposed leader, from the first moment on.
            prober = AssignClient(self.cluster, self.cluster.masters.index(leader), pause_s=0)
            prober.addresses, prober.preferred = [leader.address], 0
            prober.start()
            time.sleep(1)
            prober.stopping.set()
            prober.join()
            self.clients.append(prober)
            for a in self.all_assigned():
                if a.asked >= resumed and a.key < min(successors):
                    self.find(f"the deposed leader {leader.address} handed out key {a.key:x} via {a.master}")
        self.judge(f"SIGSTOP of the leader for {PAUSE_S} s", times)

    def restarts(self, count):
        gaps = []
        for n in range(count):
            self.settle()
            master = self.cluster.masters[n % len(self.cluster.masters)]
            if n % 2 == 0:
                master = self.cluster.wait_for_leader()
            moment = time.monotonic()
            if master.stop() != 0:
                self.find(f"{master.address} did not stop in an orderly way")
            master.start()
            self.cluster.wait_until_whole()
            gaps.append((moment, time.monotonic()))
        self.judge_gaps("restart of a master, every second time the leader", gaps)

    def transfers(self, count):
        gaps = []
        for _ in range(count):
            self.settle()
            moment = time.monotonic()
            self.cluster.transfer()
            time.sleep(0.5)
            gaps.append((moment, time.monotonic()))
        self.judge_gaps("transfer of leadership", gaps)

    def all_assigned(self):
        return [a for client in self.clients for a in list(client.assigned)]

    def judge(self, what, times):
        if not times:
            return
        median, worst = statistics.median(times), max(times)
        print(f"{what}: {len(times)} times, next fid after {median:.0f} ms (median), {worst:.0f} ms (worst)", flush=True)
        if median > MEDIAN_MS or worst > WORST_MS:
            self.find(f"{what}: over {MEDIAN_MS} ms (median) or {WORST_MS} ms (worst)")

    def judge_gaps(self, what, windows):
        """How long fids took to come that were asked for around an event."""
        if not windows:
            return
        waits = sorted(
            1000 * (a.got - a.asked)
            for a in self.all_assigned()
            if any(begin - 0.1 <= a.asked <= end for begin, end in windows)
        )
        p99, worst = waits[int(len(waits) * 0.99)], waits[-1]
        print(f"{what}: {len(windows)} times, a fid took {p99:.1f} ms (p99), {worst:.0f} ms (worst)", flush=True)
        if p99 > GAP_P99_MS or worst > GAP_WORST_MS:
            self.find(f"{what}: over {GAP_P99_MS} ms (p99) or {GAP_WORST_MS} ms (worst)")

    def finish(self):
        for client in self.clients:
            client.stopping.set()
        for client in self.clients:
            client.join()
        assigned = self.all_assigned()
        twice = len(assigned) - len({a.key for a in assigned})
        failed = sum(len(client.failed) for client in self.clients)
        print(f"{len(assigned)} fids, {twice} twice, {failed} asked for in vain", flush=True)
        if twice:
            self.find(f"{twice} keys were handed out twice")
        if failed:
            self.find(f"{failed} clients got no fid within their limit")


main()
