"""A file system whose power can be cut: an ext4 with a journal in an image, on a loop device.

`cut` shuts it down as a power failure would: from then on nothing reaches the device, neither dirty
pages nor the journal's running transaction. What was written out before stays, as on a disk without a
volatile cache. `restore` mounts what is left, which replays the journal.
"""

import ctypes
import fcntl
import os
import struct
import subprocess
import time

from servers import ScriptError

IMAGE_BYTES = 512 * 1024 * 1024
# linux/fs.h: FS_IOC_SHUTDOWN is _IOR('X', 125, __u32), FS_SHUTDOWN_FLAGS_NOLOGFLUSH is 2.
FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
SYNC_FILE_RANGE_WRITE = 2
# The same number on every architecture; the second of the five counts in struct cachestat.
SYS_CACHESTAT = 451
CACHESTAT_DIRTY = 1
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
COMMAND_LIMIT_S = 60
UNMOUNT_ATTEMPTS = 50
# Exit code where this machine cannot do it.
REFUSED = 2


class Unavailable(Exception):
    """This machine cannot cut power in this way, and why."""


class CutDisk:
    """Image, loop device and mount point below `directory`."""

    def __init__(self, directory):
        self.image = os.path.join(directory, "disk.img")
        self.mount_point = os.path.join(directory, "mounted")
        self.device = None
        self.is_mounted = False
        self.libc = ctypes.CDLL(None, use_errno=True)
        os.makedirs(self.mount_point)
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_BYTES)

    def attach(self):
        """Takes a loop device and shows once that a cut works here."""
        try:
            self.device = command("losetup", "--find", "--show", self.image).strip()
            self.make_anew()
        except ScriptError as error:
            raise Unavailable(f"no file system on a loop device here: {error}") from error
        lost = os.path.join(self.mount_point, "lost")
        with open(lost, "wb") as file:
            file.write(b"never synced")
        try:
            self.cut()
        except OSError as error:
            raise Unavailable(f"this kernel's ext4 does not know FS_IOC_SHUTDOWN: {error}") from error
        self.restore()
        if os.path.exists(lost):
            raise Unavailable("a file that was not synced outlived a cut, so that a run would show nothing")

    def make_anew(self):
        """An empty file system, mounted."""
        self.unmount()
        command("mkfs.ext4", "-q", "-F", self.device)
        self.mount()

    def mount(self):
        command("mount", "-t", "ext4", self.device, self.mount_point)
        self.is_mounted = True

    def cut(self):
        """The power goes. Whoever has files open here gets EIO from now on."""
        root = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(root, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(root)

    def restore(self):
        """Mounts what the cut has left; nobody may have files open any more."""
        self.unmount()
        self.mount()

    def dirty_pages(self, path):
        """The pages of a file that are not written out yet; none where the kernel cannot tell (before 6.5)."""
        file = os.open(path, os.O_RDONLY)
        try:
            return self.dirty_among(file, 0, os.fstat(file).st_size // PAGE_BYTES + 1)
        finally:
            os.close(file)

    def dirty_among(self, file, first, count):
        if self.count_dirty(file, first, count) == 0:
            return []
        if count == 1:
            return [first]
        half = count // 2
        return self.dirty_among(file, first, half) + self.dirty_among(file, first + half, count - half)

    def count_dirty(self, file, first, count):
        pages = (ctypes.c_uint64 * 2)(first * PAGE_BYTES, count * PAGE_BYTES)
        found = (ctypes.c_uint64 * 5)()
        failed = self.libc.syscall(SYS_CACHESTAT, file, ctypes.byref(pages), ctypes.byref(found), 0)
        return 0 if failed else found[CACHESTAT_DIRTY]

    def write_out_some(self, path, rng):
        """Has a random choice of a file's dirty pages written, as the kernel may at any time: in no
        order, and no metadata with them."""
        pages = [page for page in self.dirty_pages(path) if rng.random() < 0.5]
        file = os.open(path, os.O_RDONLY)
        try:
            for page in pages:
                offset, length = ctypes.c_int64(page * PAGE_BYTES), ctypes.c_int64(PAGE_BYTES)
                self.libc.sync_file_range(file, offset, length, SYNC_FILE_RANGE_WRITE)
        finally:
            os.close(file)

    def unmount(self):
        for attempt in range(UNMOUNT_ATTEMPTS):
            if not self.is_mounted:
                return
            try:
                command("umount", self.mount_point)
                self.is_mounted = False
            except ScriptError:
                if attempt + 1 == UNMOUNT_ATTEMPTS:
                    raise
                time.sleep(0.1)

    def detach(self):
        """Gives everything back."""
        self.unmount()
        device, self.device = self.device, None
        if device:
            command("losetup", "--detach", device)


def command(*words):
    """Runs a program that must succeed; its output."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScriptError(f"{' '.join(words)}: {error}") from error
    if done.returncode != 0:
        raise ScriptError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
