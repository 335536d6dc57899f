"""Who is measured, the host that all send to, and the messages. Postfix has a file of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import syncs

SENDER, RECEIVER = "bench@sender.example", "sink@receiver.example"
PATIENCE = 900  # seconds that one run may take


@dataclass
class Run:
    """One sender, once."""
    seconds: float
    messages: int
    cpu: float | None  # seconds, user and system; None where nobody can say
    peak_kib: int  # VmHWM; 0 where nobody can say

    @property
    def rate(self):
        return self.messages / self.seconds


class Failed(Exception):
    """A run that came to nothing; in words."""


class Sink:
    """The host: counts and discards. `sink serve` of bench_parts/sink."""

    def __init__(self, program, *options):
        command = [program, "serve", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.seen = self.violations = 0

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        return {key: int(value) for key, value in zip(words[::2], words[1::2])}

    def expect(self, count):
        """Waits for so many more."""
        counts = self.ask(f"wait {self.seen + count} {PATIENCE}")
        if counts["messages"] < self.seen + count:
            raise Failed(f"{counts['messages'] - self.seen} of {count} messages came in {PATIENCE} s")

    def settle(self, count):
        """Nothing may have come twice."""
        counts = self.ask("count")
        extra = counts["messages"] - self.seen - count
        self.seen = counts["messages"]
        wrong = counts["violations"] - self.violations
        self.violations = counts["violations"]
        if extra or wrong:
            raise Failed(f"{extra} messages too many, {wrong} violations of the protocol")

    def forget(self):
        """What came until now is nobody's."""
        counts = self.ask("count")
        self.seen, self.violations = counts["messages"], counts["violations"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def message(size, number, receiver=RECEIVER):
    """Header and body of `size` bytes with its leading block, LF, as an application writes it."""
    head = (
        f"x-sender: {SENDER}\nx-receiver: {receiver}\n"
        f"From: The bench <{SENDER}>\nTo: {receiver}\nSubject: message {number:07}\n"
        f"Date: Mon, 05 Jan 2026 10:00:00 +0000\nMessage-ID: <{number:07}@sender.example>\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n\n"
    )
    line = "The quick brown fox jumps over the lazy dog and runs on to the next line.\n"
    body = (line * (max(0, size - len(head)) // len(line) + 1))[: max(1, size - len(head)) - 1]
    return (head + body + "\n").encode()


def fill(folder, size, count, receiver=RECEIVER):
    """So many files; on the disk and some time old when this returns."""
    for number in range(count):
        with open(folder / f"{number:07}.eml", "wb", buffering=0) as file:
            file.write(message(size, number, receiver))
    os.sync()
    time.sleep(0.15)  # pickup.quiet: a file written in place is taken when it is that old


def watch(process):
    """Waits for the end of a process; returns (exit code, CPU seconds, peak KiB)."""
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_utime + usage.ru_stime, peak
        peak = max(peak, high_water(process.pid))
        time.sleep(0.005)


def cpu_of(pid):
    """Seconds, user and system, of a process and of those that it has waited for; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def until(happened, otherwise, seconds=60):
    """Waits for something that comes by itself."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise Failed(f"{otherwise} after {seconds} s")
        time.sleep(0.05)


def free_port():
    """One that nobody has at this time, for programs that cannot be told to choose."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def high_water(pid):
    """VmHWM in KiB; ru_maxrss will not do, it begins with that of the process that forked."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


class Sender:
    """Sends what lies in a folder by a program of its own that ends when it has done so."""
    name = ""
    syncs_matter = True

    def __init__(self, bench, sink):
        self.bench, self.sink = bench, sink

    def prepare(self, home, size, count):
        """Lays the messages ready; returns the command."""
        raise NotImplementedError

    def finished(self, home):
        """Looks whether anything was left behind."""

    def available(self):
        """None, or why it cannot be measured."""
        return None

    def count_syncs(self, size, count):
        """How many in a run of its own."""
        report = self.bench.place.path / "syncs"
        self.run(size, count, syncs.before(report))
        return syncs.total(report)

    def expect(self, count):
        """Waits until the host has all of them, and no more."""
        self.sink.expect(count)

    def settle(self, count):
        self.sink.settle(count)

    def run(self, size, count, before=()):
        home = self.bench.folder(self.name)
        try:
            command = [*before, *self.prepare(home, size, count)]
            with open(home / "log", "w") as log:
                began = time.perf_counter()
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                code, cpu, peak = watch(process)
                self.expect(count) if code == 0 else None
                seconds = time.perf_counter() - began
            if code != 0:
                last = (home / "log").read_text().strip().splitlines()[-1:]
                raise Failed(f"{command[0]} ended with {code}: {' '.join(last)}")
            self.settle(count)
            self.finished(home)
            return Run(seconds, count, cpu, peak)
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def close(self):
        """At the end of all rows."""


class LeftOut(Sender):
    """Shows its name and why nothing is known of it."""

    def __init__(self, name, why):
        self.name, self.why = name, why

    def available(self):
        return self.why


class Mailroot(Sender):
    """`mailroot drain`, its log going to a file; timed from its start to its end, all syncs included."""

    def __init__(self, bench, sink, name, connections=None):
        super().__init__(bench, sink)
        self.name, self.connections = name, connections

    def prepare(self, home, size, count):
        root = self.bench.mailroot_at(home / "mailroot", self.sink, self.connections)
        fill(root / "Pickup", size, count)
        return [self.bench.mailroot, "drain", root]

    def finished(self, home):
        left = [*os.scandir(home / "mailroot/Pickup"), *os.scandir(home / "mailroot/Queue")]
        if left:
            raise Failed(f"{len(left)} files were left in Pickup and Queue")


class Bare(Sender):
    """The physical limit: `sink bare`."""

    def __init__(self, bench, sink, name, *options, connections=None):
        super().__init__(bench, sink)
        self.name = name
        self.options = ["--connections", str(connections or bench.connections), *options]

    def prepare(self, home, size, count):
        pickup, work = home / "Pickup", home / "work"
        pickup.mkdir()
        work.mkdir()
        fill(pickup, size, count)
        return [self.bench.sink_program, "bare", pickup, work, str(self.sink.port), *self.options]


class Flood(Bare):
    """No disk at all: what the host takes."""
    syncs_matter = False

    def prepare(self, home, size, count):
        return [self.bench.sink_program, "flood", str(size), str(count), str(self.sink.port), *self.options]


class Smtplib(Sender):
    """The honest rival: eight lines of Python on one kept connection, each file unlinked after the 250."""
    name = "Python smtplib"
    LOOP = """
import os, smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[2])) as host:
    for entry in os.scandir(sys.argv[1]):
        with open(entry.path) as file:
            sender, receiver, content = file.read().split("\\n", 2)
        host.sendmail(sender[10:], [receiver[12:]], content)
        os.unlink(entry.path)
"""

    def prepare(self, home, size, count):
        pickup = home / "Pickup"
        pickup.mkdir()
        fill(pickup, size, count)
        return [sys.executable, "-S", "-c", self.LOOP, pickup, str(self.sink.port)]


def end(process):
    """Ends a process that we started, in good order."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
