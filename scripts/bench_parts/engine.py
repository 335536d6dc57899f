"""A running `mailroot run`: started, looked at, ended. For rows that are about the service rather than a drain."""

import subprocess
import time

from . import senders
from .senders import Failed, high_water


class Engine:
    """With its log in a file beside the mailroot."""

    def __init__(self, bench, root):
        self.root = root
        self.log = open(root.with_name(root.name + ".log"), "w")
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [bench.mailroot, "run", root], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        senders.end(self.process)
        self.log.close()

    def age(self):
        """Seconds since it was started."""
        if self.process.poll() is not None:
            raise Failed(f"run ended with {self.process.returncode}")
        return time.perf_counter() - self.began

    def cpu(self):
        """Seconds, user and system, so far."""
        return senders.cpu_of(self.process.pid)

    def peak_kib(self):
        return high_water(self.process.pid)

    def resident_kib(self):
        """VmRSS: what it has at this time."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0)
