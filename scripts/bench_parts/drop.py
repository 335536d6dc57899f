"""The row of local delivery: every file in Drop is synced, so the disk is the bound."""

import os
import time

from .bench import Contest, Result, say
from .senders import Failed, Run, Sender, Mailroot, fill, SENDER

THREADS = (1, 2, 4, 8, 16, 32, 64)
LOCAL = "app@bench.example"


class ToDrop(Mailroot):
    """`mailroot drain` of files for the local domain."""

    def prepare(self, home, size, count):
        root = self.bench.mailroot_at(home / "mailroot", self.sink)
        fill(root / "Pickup", size, count, LOCAL)
        return [self.bench.mailroot, "drain", root]

    def expect(self, count):
        """Nothing goes to the host."""

    def settle(self, count):
        self.sink.settle(0)

    def finished(self, home):
        super().finished(home)
        there = len(os.listdir(home / "mailroot/Drop"))
        if there != self.laid:
            raise Failed(f"{there} of {self.laid} files are in Drop")

    def run(self, size, count, before=()):
        self.laid = count
        return super().run(size, count, before)


class Durable(Sender):
    """`sink durable`: nothing but write, fsync, rename, sync of the folder."""

    def __init__(self, bench, threads):
        super().__init__(bench, bench.data)
        self.name, self.threads = f"write, fsync, rename, sync: {threads} threads", threads

    def prepare(self, home, size, count):
        (home / "Drop").mkdir()
        return [self.bench.sink_program, "durable", home / "Drop", str(size), str(count),
                "--connections", str(self.threads)]

    def expect(self, count):
        """Nothing goes to the host."""

    def settle(self, count):
        """Nothing went there."""


class Drop:
    name, what, seconds, quick = "drop", "1 KB files for the local domain into Drop, each synced", 180, True

    def measure(self, bench):
        count = 500 if bench.quick else 20_000
        result = Result(f"{self.name}: {count:,} {self.what}")
        threads = self._best(bench, max(200, count // 10), result)
        contest = Contest(bench, self.name, result)
        ours = contest.enter(ToDrop(bench, bench.data, "mailroot"), 1024, count)
        best = contest.enter(Durable(bench, threads), 1024, count, "mailroot")
        contest.run()
        result.ratio("of the best that this disk gives", ours, best, 0.7)
        return result

    def _best(self, bench, count, result):
        """The number of threads with which the disk gives most."""
        rates = {}
        for threads in THREADS:
            say(f"{self.name}: the disk with {threads} threads")
            rates[threads] = Durable(bench, threads).run(1024, count).rate
        result.notes.append("durable files a second by threads: " + ", ".join(f"{n}: {rate:,.0f}" for n, rate in rates.items()))
        return max(rates, key=rates.get)
