"""How many syncs a sender asks for: fsync and its kin, counted by strace in a run that is not timed.

Not counted: sync_file_range, which writes bytes out and makes nothing durable by itself.
"""

import shutil
import signal
import subprocess
import time
from pathlib import Path

CALLS = "fsync,fdatasync,syncfs,sync,msync"


def why_not():
    """None when they can be counted."""
    return None if shutil.which("strace") else "there is no strace"


def before(report):
    """What is put before a command so that its syncs are counted."""
    return ["strace", "-f", "--seccomp-bpf", "-c", "-o", str(report), "-e", f"trace={CALLS}"]


class Beside:
    """Counts in processes that run already, and in those that they start."""

    def __init__(self, pids, report):
        self.report = report
        command = ["strace", "-f", "-c", "-o", str(report), "-e", f"trace={CALLS}"]
        for pid in pids:
            command += ["-p", str(pid)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        return total(self.report)


def total(report):
    """The calls in the table that strace has written."""
    calls = 0
    for line in Path(report).read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[-1] in CALLS.split(","):
            calls += int(words[3])
    return calls
