"""A server as a process: ended in one way or another, and what it has used so far."""

import os
import signal
import subprocess

STOP_LIMIT_S = 60
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ScriptError(Exception):
    """What went wrong, in a sentence for whoever runs the script."""


class ServerProcess:
    """What has `process`, `log_path`, and in its `name` what errors call it."""

    def stop(self):
        """Asks it to stop and waits; its exit code."""
        return self._end(signal.SIGTERM)

    def kill9(self):
        """Ends it at once, as a crash of the process would."""
        return self._end(signal.SIGKILL)

    def _end(self, number):
        process, self.process = self.process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            return process.wait(timeout=STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ScriptError(f"{self.name} did not stop within {STOP_LIMIT_S} s\n{self.log_tail()}") from None

    def cpu_seconds(self):
        """Processor time of the whole process so far, user and system."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def resident_bytes(self):
        """Memory of the process that is in RAM, without mapped files."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmRSS"].split()[0]) * 1024

    def log_tail(self, lines=40):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])
