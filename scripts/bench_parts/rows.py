"""What is measured: one entry of ALL per row of the table."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

from . import senders
from .postfix import Postfix
from .senders import Bare, Failed, Flood, Mailroot, Sink, Smtplib


class Bench:
    """What the rows share: programs, the place, hosts, and senders that stay."""

    def __init__(self, programs, place, wanted):
        self.mailroot, self.sink_program = programs / "mailroot", programs / "examples/sink"
        self.place, self.quick, self.connections = place, wanted.quick, wanted.connections
        self.no_postfix = wanted.no_postfix
        self.runs = wanted.runs or (3 if wanted.quick else 5)
        self.data, self.bdat = Sink(self.sink_program, False), Sink(self.sink_program, True)
        self._postfix = None

    @property
    def postfix(self):
        """Started when a row first wants it."""
        if self._postfix is None:
            say("starting Postfix")
            self._postfix = Postfix(self, self.data)
        return self._postfix

    def folder(self, name):
        """An empty one on the disk that is measured."""
        path = self.place.path / name.replace(" ", "-")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def mailroot_at(self, path, sink):
        """A fresh mailroot whose smart host is this sink."""
        subprocess.run([self.mailroot, "init", path], check=True, stdout=subprocess.DEVNULL)
        (path / "mailroot.toml").write_text(
            '[server]\nhostname = "bench.example"\n'
            f'[delivery]\nsmart_host = "[127.0.0.1]:{sink.port}"\n'
            f"max_connections_per_domain = {self.connections}\n"
        )
        return path

    def close(self):
        if self._postfix is not None:
            self._postfix.close()
        for sink in (self.data, self.bdat):
            sink.close()


@dataclass
class Line:
    """One sender in one row."""
    name: str
    runs: list = field(default_factory=list)
    skipped: str = ""

    @property
    def rate(self):
        return statistics.median(run.rate for run in self.runs) if self.runs else None


@dataclass
class Bar:
    """What was promised, and what was reached."""
    what: str
    reached: str
    met: bool


@dataclass
class Result:
    title: str
    lines: list = field(default_factory=list)
    bars: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    failed: bool = False


class SmartHost:
    """Files of one size in Pickup, one host on loopback."""

    def __init__(self, name, size, count, quick, what, bar):
        self.name, self.size, self.count, self.quick, self.what, self.bar = name, size, count, quick, what, bar

    def measure(self, bench):
        count = self.quick if bench.quick else self.count
        result = Result(f"{self.what}, {count} files, {bench.connections} connections at most")
        who = [
            Mailroot(bench, bench.data, "mailroot, DATA"), Mailroot(bench, bench.bdat, "mailroot, BDAT"),
            bench.postfix, Smtplib(bench, bench.data),
            Bare(bench, bench.data, "bare loop, DATA", False), Bare(bench, bench.bdat, "bare loop, BDAT", True),
            Flood(bench, bench.data, "sink alone, DATA", False), Flood(bench, bench.bdat, "sink alone, BDAT", True),
        ]
        by_name = {sender.name: Line(sender.name, skipped=sender.available() or "") for sender in who}
        result.lines = list(by_name.values())
        # In turn, so that what else happens on the machine meets all of them.
        for number in range(bench.runs):
            for sender in who:
                line = by_name[sender.name]
                if line.skipped:
                    continue
                say(f"{self.name}: run {number + 1} of {bench.runs}, {sender.name}")
                try:
                    line.runs.append(sender.run(self.size, count))
                except Failed as why:
                    line.skipped, line.runs, result.failed = f"failed: {why}", [], True
        self._judge(result, by_name)
        return result

    def _judge(self, result, lines):
        ours = lines["mailroot, DATA"].rate
        if not ours:
            return
        for name, least in (("Postfix", self.bar), ("Python smtplib", None), ("bare loop, DATA", None)):
            theirs = lines[name].rate
            if theirs:
                met = least is None or ours / theirs >= least
                result.bars.append(Bar(f"≥ {least} × {name}" if least else f"× {name}", f"{ours / theirs:.2f}", met))
        for way in ("DATA", "BDAT"):
            ours, sink = lines[f"mailroot, {way}"].rate, lines[f"sink alone, {way}"].rate
            if ours and sink:
                result.bars.append(Bar(f"the sink alone takes more than mailroot gives ({way})", f"{sink / ours:.1f} ×", sink > ours))


class Backlog:
    """Many files lie in Pickup: memory must not grow with them."""
    name, what = "pickup-backlog", "memory while 100,000 files of 1 KB lie in Pickup"

    def measure(self, bench):
        count = 20_000 if bench.quick else 100_000
        result = Result(f"a backlog: {count} files of 1 KB in Pickup")
        small, large = Line("mailroot, 1000 files"), Line(f"mailroot, {count} files")
        result.lines = [small, large]
        for line, many in ((small, 1000), (large, count)):
            say(f"{self.name}: {line.name}")
            try:
                line.runs.append(Mailroot(bench, bench.data, "mailroot, backlog").run(1024, many))
            except Failed as why:
                line.skipped, result.failed = f"failed: {why}", True
        if small.runs and large.runs:
            peak = large.runs[0].peak_kib
            growth = (peak - small.runs[0].peak_kib) * 1024 / (count - 1000)
            result.bars.append(Bar("peak ≤ 200 MB", f"{peak / 1024:.1f} MiB", peak <= 200_000_000 / 1024))
            result.notes.append(f"per further file in Pickup: {growth:.0f} bytes")
        return result


class StartUp:
    """An empty mailroot."""
    name, what = "start-up", "time of `drain` with nothing to do; time until `run` has delivered a file that lay there"

    def measure(self, bench):
        result = Result("start-up")
        times = 10 if bench.quick else 30
        say(f"{self.name}: {times} times drain, {times} times run")
        root = bench.mailroot_at(bench.folder("start-up") / "mailroot", bench.data)
        try:
            drains = [self._drain(bench, root) for _ in range(times)]
            runs = [self._run(bench, root) for _ in range(times)]
        except Failed as why:
            result.failed = True
            result.notes.append(str(why))
            return result
        drain = statistics.median(drains)
        result.bars.append(Bar("drain with nothing to do, start to end < 50 ms", in_ms(drains), drain < 0.050))
        result.bars.append(Bar("run: from its start until a file that lay in Pickup is accepted at the host", in_ms(runs), True))
        return result

    def _drain(self, bench, root):
        began = time.perf_counter()
        process = subprocess.Popen([bench.mailroot, "drain", root], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        code = process.wait()
        seconds = time.perf_counter() - began
        if code != 0:
            raise Failed(f"drain ended with {code}")
        return seconds

    def _run(self, bench, root):
        senders.fill(root / "Pickup", 1024, 1)
        began = time.perf_counter()
        process = subprocess.Popen([bench.mailroot, "run", root], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            bench.data.expect(1)
            return time.perf_counter() - began
        finally:
            senders.end(process)
            bench.data.settle(1)


def in_ms(times):
    return f"{statistics.median(times) * 1000:.1f} ms ({min(times) * 1000:.1f}–{max(times) * 1000:.1f})"


def say(what):
    """How far it is; not part of the result."""
    if sys.stderr.isatty():
        print(f"\r\033[K… {what}", end="", file=sys.stderr, flush=True)
    elif os.environ.get("BENCH_SAY"):
        print(f"… {what}", file=sys.stderr, flush=True)


ALL = [
    SmartHost("1k-smarthost", 1024, 5_000, 1_000, "1 KB files to one host", 5),
    SmartHost("10k-smarthost", 10 * 1024, 3_000, 500, "10 KB files to one host", None),
    SmartHost("1m-smarthost", 1024 * 1024, 200, 40, "1 MB files to one host", None),
    Backlog(),
    StartUp(),
]
