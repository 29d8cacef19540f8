"""Cuts the leader off and looks when it stops handing out fids, and when another one begins to.

Every master hands out keys that were granted to it alone, in order, so the key of a fid tells whose it
was, whichever master the client had asked. A client asks the leader and no other: what it gets once the
cut is made, the old leader gave.
"""

import argparse
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from cluster import AssignClient, Cluster, Node  # noqa: E402
from namespaces import Network  # noqa: E402
from servers import ScriptError, get_json, say  # noqa: E402

MASTERS = ["m1", "m2", "m3"]
VOLUME_SERVERS = ["v1", "v2", "v3"]
CLIENT = "client"
# Goals, in milliseconds.
STOP_MS, NEXT_MS = 500, 1500
CUT_S, QUIET_S = 4, 3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    options = parser.parse_args()
    try:
        network = Network()
    except ScriptError as error:
        sys.exit(str(error))
    cluster = None
    try:
        cluster = NamespacedCluster(network, os.environ["DULSE"], options.dir)
        network.enter(CLIENT)
        cluster.start()
        run = Run(network, cluster)
        for kind in ("both ways", "nothing leaves it", "nothing reaches it"):
            run.cuts(kind, options.rounds)
        run.finish()
    except ScriptError as error:
        sys.exit(str(error))
    finally:
        if cluster is not None:
            cluster.kill_all()
        network.close()
    sys.exit(1 if run.findings else 0)


class NamespacedCluster(Cluster):
    """The masters and volume servers of a cluster, each in a namespace; they know each other by a secret."""

    def __init__(self, network, program, directory):
        # pylint: disable=super-init-not-called
        secret = os.path.join(directory, "secret")
        subprocess.run([program, "cluster", "new-secret", secret], check=True, capture_output=True)
        hosts = {name: network.add(name) for name in (*MASTERS, *VOLUME_SERVERS, CLIENT)}
        peers = ",".join(hosts[name] for name in MASTERS)

        def node(name, role, port, flags):
            flags = [f"--ip={hosts[name]}", f"--cluster-secret-file={secret}", *flags]
            place, prefix = os.path.join(directory, name), network.command(name)
            return Node(role, program, place, port, flags, host=hosts[name], prefix=prefix)

        self.masters = [node(name, "master", 9333, [f"--peers={peers}"]) for name in MASTERS]
        self.volume_servers = [
            node(name, "volume", 8080, [f"--master={peers}", "--max-volumes=100"]) for name in VOLUME_SERVERS
        ]


class Run:
    """Clients that ask all the time, and what was found."""

    def __init__(self, network, cluster):
        self.network, self.cluster = network, cluster
        self.clients = [self.client() for _ in MASTERS]
        for n, client in enumerate(self.clients):
            # Each asks one master and no other.
            client.addresses, client.preferred = [cluster.masters[n].address], 0
            client.start()
        self.findings = []

    def client(self):
        return AssignClient(self.cluster, 0, enter=lambda: self.network.enter(CLIENT))

    def find(self, text):
        say(f"FINDING: {text}")
        self.findings.append(text)

    def cuts(self, kind, rounds):
        stops, nexts, changes = [], [], 0
        for _ in range(rounds):
            self.cluster.wait_until_whole()
            time.sleep(0.5)
            leader = self.cluster.masters.index(self.cluster.wait_for_leader())
            stop, following, changed = self.one_cut(kind, leader)
            stops.append(stop)
            nexts.append(following)
            changes += changed
        print(
            f"{kind}: {rounds} times, the leader stopped after {max(stops):.0f} ms at most, the next fid of "
            f"another came after {sorted(nexts)[rounds // 2]:.0f} ms (median), {max(nexts):.0f} ms (worst), "
            f"healing changed the leader {changes} times",
            flush=True,
        )
        if max(stops) > STOP_MS:
            self.find(f"{kind}: a leader went on for over {STOP_MS} ms")
        if max(nexts) > NEXT_MS:
            self.find(f"{kind}: no other master served within {NEXT_MS} ms")
        if changes:
            self.find(f"{kind}: healing disturbed the new leader")

    def one_cut(self, kind, leader):
        ways = self.ways(kind, MASTERS[leader])
        for sender, receiver in ways:
            self.network.cut(sender, receiver)
        moment = time.monotonic()
        time.sleep(CUT_S)
        old = [a for a in self.clients[leader].assigned if a.got >= moment]
        others = [c for n, c in enumerate(self.clients) if n != leader]
        new = min((a for c in others for a in c.assigned if a.asked >= moment), key=lambda a: a.got, default=None)
        if new is None:
            raise ScriptError(f"{kind}: no other master served within {CUT_S} s")
        leads, term = self.present(others)
        for sender, receiver in ways:
            self.network.heal(sender, receiver)
        time.sleep(QUIET_S)
        changed = self.present(self.clients) != (leads, term)
        stopped = max((a.got for a in old), default=moment)
        return 1000 * (stopped - moment), 1000 * (new.got - moment), int(changed)

    def ways(self, kind, leader):
        others = [name for name in MASTERS if name != leader]
        out = [(leader, other) for other in others]
        back = [(other, leader) for other in others]
        return {"both ways": out + back, "nothing leaves it": out, "nothing reaches it": back}[kind]

    def present(self, clients):
        """Leader and term, as the masters of these clients say; none if they differ."""
        addresses = [client.addresses[0] for client in clients]
        said = {(page["leader"], page["term"]) for page in (get_json(a, "/ui/status.json", 5) for a in addresses)}
        return said.pop() if len(said) == 1 else (None, None)

    def finish(self):
        for client in self.clients:
            client.stopping.set()
        for client in self.clients:
            client.join()
        assigned = [a for client in self.clients for a in client.assigned]
        twice = len(assigned) - len({a.key for a in assigned})
        print(f"{len(assigned)} fids, {twice} twice", flush=True)
        if twice:
            self.find(f"{twice} keys were handed out twice")


main()
