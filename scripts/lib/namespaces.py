"""A network of its own for each process: namespaces on one bridge, whose ways to each other can be cut.

A cut is silent and goes one way: packets are sent to a hardware address that nobody has, so nothing is
refused and nothing arrives. Needs root. All names begin with the id of this process, and `close` removes
them.
"""

import ctypes
import os
import subprocess

from servers import ScriptError

SUBNET = "10.77.0"
# Python has a call of its own for it from 3.12 on.
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
NOBODY = "02:00:00:00:ff:ff"


class Network:
    """The namespaces of one run."""

    def __init__(self):
        if os.geteuid() != 0:
            raise ScriptError("namespaces need root: run this as root, in a container say")
        self.prefix = f"dulse{os.getpid()}"
        self.members = {}
        self.bridge = f"{self.prefix}-bridge"
        _ip("netns", "add", self.bridge)
        _ip("-n", self.bridge, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.bridge, "link", "set", "bridge", "up")

    def add(self, name):
        """A namespace; its address."""
        number = len(self.members) + 1
        namespace, address = f"{self.prefix}-{name}", f"{SUBNET}.{number}"
        hardware = f"02:00:00:00:00:{number:02x}"
        self.members[name] = (namespace, address, hardware)
        _ip("netns", "add", namespace)
        _ip("link", "add", "eth0", "netns", namespace, "type", "veth",
            "peer", "name", f"port{number}", "netns", self.bridge)
        _ip("-n", self.bridge, "link", "set", f"port{number}", "master", "bridge", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", "eth0", "address", hardware, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        return address

    def command(self, name):
        """What runs a program in a namespace."""
        return ("ip", "netns", "exec", self.members[name][0])

    def enter(self, name):
        """Puts the calling thread into a namespace."""
        with open(f"/run/netns/{self.members[name][0]}", encoding="ascii") as namespace:
            if LIBC.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise ScriptError(f"cannot enter the namespace of {name}: {os.strerror(ctypes.get_errno())}")

    def cut(self, sender, receiver):
        """Nothing that `sender` sends reaches `receiver`."""
        self._neighbour(sender, receiver, NOBODY)

    def heal(self, sender, receiver):
        self._neighbour(sender, receiver, self.members[receiver][2])

    def _neighbour(self, sender, receiver, hardware):
        namespace, (_, address, _) = self.members[sender][0], self.members[receiver]
        _ip("-n", namespace, "neigh", "replace", address, "lladdr", hardware, "dev", "eth0", "nud", "permanent")

    def close(self):
        for namespace, _, _ in self.members.values():
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        subprocess.run(["ip", "netns", "del", self.bridge], check=False)


def _ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ScriptError(f"ip {' '.join(words)}: {done.stderr.strip()}")
