"""Writes needles of every kind with dulse, then has SeaweedFS serve them from a copy of the files.

For both offset widths: what dulse answers to a GET before it stops is what SeaweedFS has to answer
from the copy, in body, name, type, ETag, time and pairs; what is deleted has to stay so. The large
files are served once as they are and once with their `.idx` rebuilt by `weed fix`. SeaweedFS's
program has 5-byte offsets, so of the small ones it gets the `.dat` files only and rebuilds the rest.
"""

import argparse
import base64
import gzip
import hashlib
import os
import random
import shutil
import subprocess
import sys
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

from servers import ScriptError, Server, get_json, request, say  # noqa: E402

# What a reader sees of a needle beside its body.
COMPARED = ("Content-Type", "Content-Disposition", "ETag", "Last-Modified", "Content-Encoding", "Color", "Shape", "Note")
# A needle of this type has none: SeaweedFS then guesses one from the bytes, dulse does not.
UNTYPED = "application/octet-stream"
LARGE = 20 * 1024 * 1024
MANY = 300


def main():
    options = parse()
    differences, table = [], []
    for width in (5, 4):
        directory = os.path.join(options.dir, f"ours-{width}")
        expected, counts = write_with_dulse(directory, width)
        needles = len({fid for fid, _ in expected})
        say(f"{width}-byte offsets: {needles} needles written: {counts}")
        ways = ("as written", "index rebuilt by weed fix") if width == 5 else ("index rebuilt by weed fix",)
        for way in ways:
            copy = os.path.join(options.dir, f"copy-{width}-{len(table)}")
            volumes = copy_volumes(directory, copy, only_dat=width == 4)
            if way != "as written":
                weed_fix(copy)
            found = serve_with_weed(copy, expected, volumes)
            differences += [f"{width}-byte offsets, {way}: {difference}" for difference in found]
            table.append((width, way, volumes, needles, len(found)))
    print("| Offsets | Files | Volumes | Needles | Differences |\n|---|---|---|---|---|")
    for row in table:
        print("| {} bytes | {} | {} | {} | {} |".format(*row))
    for difference in differences[:50]:
        print(difference)
    sys.exit(1 if differences else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default=os.environ.get("SCRATCH", "."))
    return parser.parse_args()


class Writer:
    """Stores needles on a server and remembers what each is for."""

    def __init__(self, server):
        self.server = server
        self.fids = []
        self.counts = {}
        self.random = random.Random(20)

    def put(self, kind, body, headers=None, fid=None, query="", **assign):
        """One raw PUT; its fid."""
        fid = fid or self.assign(**assign)
        self.send("PUT", f"/{fid}{query}", body, {"Content-Type": "application/x-bytes"} | (headers or {}))
        return self.remember(kind, fid)

    def post_form(self, kind, name, mime, body, headers=None, fid=None):
        """One multipart POST, as a browser sends it; its fid."""
        fid = fid or self.assign()
        boundary = "a-boundary-of-our-own"
        encoding = "".join(f"{key}: {value}\r\n" for key, value in (headers or {}).items())
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {mime}\r\n{encoding}\r\n"
        )
        form = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
        self.send("POST", f"/{fid}", form, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        return self.remember(kind, fid)

    def delete(self, kind, fid):
        self.send("DELETE", f"/{fid}", None, {})
        return self.remember(kind, fid)

    def assign(self, **parameters):
        query = urllib.parse.urlencode(parameters)
        return get_json(self.server.master, f"/dir/assign?{query}")["fid"]

    def send(self, method, path, body, headers):
        status, _, answer = request(self.server.volume, method, path, body, headers)
        if status not in (201, 202):
            raise ScriptError(f"dulse: {method} {path}: {status} {answer[:300]!r}")

    def remember(self, kind, fid):
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if fid not in self.fids:
            self.fids.append(fid)
        return fid


def write_needles(writer):
    """Every kind of needle that SeaweedFS knows how to store."""
    data = writer.random.randbytes
    text = b"every line is the same as the one before\n" * 400
    writer.put("empty", b"")
    writer.post_form("empty", "nothing.txt", "text/plain", b"")
    writer.put("gzipped", gzip.compress(text), {"Content-Encoding": "gzip", "Content-Type": "text/plain"})
    writer.post_form("gzipped", "lines.txt.gz", "text/plain", gzip.compress(text), {"Content-Encoding": "gzip"})
    writer.put("paired", data(777), {"Seaweed-Color": "red", "Seaweed-Shape": "round one", "Seaweed-Note": '"quoted" \\ <tag>'})
    writer.post_form("UTF-8 name", "文件名 with space.jpg", "image/jpeg", data(12_315))
    writer.post_form("UTF-8 name", "Žluťoučký kůň.pdf", "application/pdf", data(400))
    writer.post_form("named", "page.html", "text/html", b"<p>words</p>")
    digest = base64.b64encode(hashlib.md5(text).digest()).decode()
    writer.put("with Content-MD5", text, {"Content-MD5": digest})
    writer.put("without a type", data(1500), {"Content-Type": UNTYPED})
    writer.put("with ts", data(10), query="?ts=1700000000")
    writer.put("large", data(LARGE))
    writer.post_form("large", "large.bin", "application/x-thing", data(LARGE // 2))
    writer.put("in a collection", data(2000), collection="things")
    writer.put("with ttl", data(2000), ttl="3d", query="?ttl=3d")
    for size in range(1, 33):
        writer.put("every padding", data(size))
    for _ in range(3):
        again = writer.put("overwritten", data(500))
        writer.put("overwritten", data(writer.random.randrange(1, 5000)), fid=again)
        gone = writer.post_form("deleted", "gone.txt", "text/plain", text)
        writer.delete("deleted", gone)
        back = writer.put("deleted and stored again", data(300))
        writer.delete("deleted and stored again", back)
        writer.put("deleted and stored again", data(301), fid=back)
    empty = writer.put("empty and deleted", b"")
    writer.delete("empty and deleted", empty)
    for _ in range(MANY):
        writer.put("plain", data(writer.random.randrange(1, 20_000)))


def write_with_dulse(directory, width):
    """What dulse answers for each fid, once it has stopped cleanly."""
    extra = ["--max-volumes=100"] + (["--large-volumes"] if width == 5 else [])
    server = Server("dulse", os.environ["DULSE"], os.path.join(directory, "data"), extra)
    try:
        server.start()
        writer = Writer(server)
        write_needles(writer)
        expected = {(fid, accept): answer(server, fid, accept) for fid in writer.fids for accept in ("identity", "gzip")}
        code = server.stop()
        if code != 0:
            raise ScriptError(f"dulse ended with {code} when asked to stop\n{server.log_tail()}")
        return expected, writer.counts
    finally:
        server.kill9()


def answer(server, fid, accept):
    """A GET as it is compared: status, digest and length of the body, headers."""
    status, headers, body = request(server.volume, "GET", f"/{fid}", headers={"Accept-Encoding": accept})
    if status != 200:
        return {"status": status}
    shown = {name: headers[name] for name in COMPARED if headers[name] is not None}
    return {"status": status, "length": len(body), "sha256": hashlib.sha256(body).hexdigest(), **shown}


def copy_volumes(directory, copy, only_dat):
    """Copies the volume files, ours beside them; how many volumes there are."""
    source = os.path.join(directory, "data")
    target = os.path.join(copy, "data")
    os.makedirs(target)
    volumes = 0
    for entry in os.scandir(source):
        if not entry.is_file() or (only_dat and not entry.name.endswith(".dat")):
            continue
        shutil.copy2(entry.path, target)
        volumes += entry.name.endswith(".dat")
    if not volumes:
        raise ScriptError(f"dulse left no .dat file in {source}")
    return volumes


def weed_fix(copy):
    """Has SeaweedFS rebuild each `.idx` from its `.dat`."""
    data = os.path.join(copy, "data")
    for entry in list(os.scandir(data)):
        if entry.name.endswith(".idx"):
            os.unlink(entry.path)
    result = subprocess.run([os.environ["WEED"], "fix", data], capture_output=True, text=True, timeout=120)
    rebuilt = sum(entry.name.endswith(".idx") for entry in os.scandir(data))
    volumes = sum(entry.name.endswith(".dat") for entry in os.scandir(data))
    if result.returncode != 0 or rebuilt != volumes or " error" in result.stderr.lower():
        raise ScriptError(f"weed fix: {result.returncode}, {rebuilt} of {volumes} rebuilt\n{result.stderr}")


def serve_with_weed(copy, expected, volumes):
    """Every difference between what dulse answered and what SeaweedFS answers from the copy."""
    master = os.path.join(copy, "master")
    os.makedirs(master)
    data = os.path.join(copy, "data")
    server = Server("weed", os.environ["WEED"], data, [f"-master.dir={master}"])
    try:
        server.start(wait=False)
        listed = lambda: get_json(server.volume, "/status").get("Volumes") or []  # noqa: E731
        server.wait_until("it lists the copied volumes", lambda: len(listed()) >= volumes)
        read_only = [volume["Id"] for volume in listed() if volume["ReadOnly"]]
        differences = [f"volume {volume} is read-only" for volume in read_only]
        for (fid, accept), ours in expected.items():
            theirs = answer(server, fid, accept)
            if ours.get("Content-Type") == UNTYPED:
                theirs["Content-Type"] = UNTYPED
            parts = [f"{part}: {ours.get(part)} became {theirs.get(part)}" for part in sorted(ours | theirs)
                     if ours.get(part) != theirs.get(part)]
            differences += [f"/{fid} ({accept}): {part}" for part in parts]
        return differences
    finally:
        server.kill9()


if __name__ == "__main__":
    try:
        main()
    except ScriptError as error:
        sys.exit(f"error: {error}")
