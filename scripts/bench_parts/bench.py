"""What the rows share: the programs, the place, the hosts, the senders that stay, and what a result is made of."""

import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field

from . import senders, syncs
from .postfix import Postfix
from .senders import Failed, Sink, message

SYNCS_FROM, QUICK_SYNCS_FROM = 2_000, 200  # messages of the run in which syncs are counted


class Bench:
    """Programs, place, hosts; one for all rows."""

    def __init__(self, programs, place, wanted):
        self.mailroot = wanted.binary.resolve() if wanted.binary else programs / "mailroot"
        self.sink_program = programs / "examples/sink"
        self.place, self.quick, self.connections = place, wanted.quick, wanted.connections
        self.no_peers = wanted.no_peers
        self.asked_runs, self.million = wanted.runs, wanted.million
        self.runs = wanted.runs or (3 if wanted.quick else 5)
        self.data, self.bdat = Sink(self.sink_program), Sink(self.sink_program, "--chunking")
        self._staying = {}

    def staying(self, kind):
        """A sender that is started when a row first wants it, and stays for others."""
        if kind not in self._staying:
            say(f"starting {kind.name}")
            self._staying[kind] = kind(self, self.data)
        return self._staying[kind]

    def left_out(self, kind):
        """The same, where it would take longer than all else."""
        return senders.LeftOut(kind.name, "left out by --quick")

    @property
    def postfix(self):
        return self.staying(Postfix)

    def folder(self, name):
        """An empty one on the disk that is measured."""
        path = self.place.path / name.replace(" ", "-")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def mailroot_at(self, path, sink, connections=None, more=""):
        """A fresh mailroot whose smart host is this sink."""
        subprocess.run([self.mailroot, "init", path], check=True, stdout=subprocess.DEVNULL)
        (path / "mailroot.toml").write_text(
            '[server]\nhostname = "bench.example"\n'
            f'[delivery]\nsmart_host = "[127.0.0.1]:{sink.port}"\n'
            f"max_connections_per_domain = {connections or self.connections}\n{more}"
        )
        return path

    def fill(self, folder, size, count):
        """Files of 1 KB by the million, on the disk when this returns."""
        self._by_template("fill", folder, size, count)

    def defer(self, queue, size, count):
        """The same for messages that wait in a Queue."""
        self._by_template("defer", queue, size, count, "sink@receiver.example")

    def _by_template(self, what, folder, size, count, *words):
        template = self.place.path / "template"
        template.write_bytes(message(size, 0))
        subprocess.run([self.sink_program, what, folder, template, *words, str(count)], check=True)
        os.sync()

    def close(self):
        for sender in self._staying.values():
            sender.close()
        for sink in (self.data, self.bdat):
            sink.close()


@dataclass
class Line:
    """One sender in one row."""
    name: str
    runs: list = field(default_factory=list)
    skipped: str = ""
    syncs: float | None = None  # per message
    beside: str = ""  # the line of ours that it is compared with

    @property
    def rate(self):
        return statistics.median(run.rate for run in self.runs) if self.runs else None

    @property
    def cpu(self):
        """Seconds per 1,000 messages."""
        known = [run.cpu / run.messages * 1000 for run in self.runs if run.cpu is not None]
        return statistics.median(known) if known else None

    @property
    def peak_kib(self):
        return max((run.peak_kib for run in self.runs), default=0)


@dataclass
class Bar:
    """What must be reached (empty: nothing is asked, it is told), what was, and whether that is enough."""
    what: str
    wanted: str
    reached: str
    met: bool | None = True  # None: nobody knows


@dataclass
class Result:
    title: str
    lines: list = field(default_factory=list)
    bars: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    failed: bool = False

    def ratio(self, what, ours, theirs, least):
        """A bar on the rates of two lines, where both were measured."""
        if not (ours and theirs and ours.rate and theirs.rate):
            self.bars.append(Bar(what, f"≥ {least:g}", "not measured", None))
            return
        reached = ours.rate / theirs.rate
        self.bars.append(Bar(what, f"≥ {least:g}", f"{reached:.2f}", reached >= least))

    def told(self, what, one, other):
        """The same where nothing is asked."""
        if one.rate and other.rate:
            self.bars.append(Bar(what, "", f"{one.rate / other.rate:.2f}"))

    def unmeasured(self, why):
        self.failed = True
        self.notes.append(f"failed: {why}")


class Contest:
    """Several senders in one row, in turn, so that what else happens on the machine meets all of them."""

    def __init__(self, bench, row, result):
        self.bench, self.row, self.result, self.entries = bench, row, result, []

    def enter(self, sender, size, count, beside=""):
        """The messages are of that size, and so many."""
        line = Line(sender.name, skipped=sender.available() or "", beside=beside)
        self.result.lines.append(line)
        self.entries.append((sender, line, size, count))
        return line

    def run(self, runs=None, count_syncs=True):
        runs = runs or self.bench.runs
        for number in range(runs):
            for sender, line, size, count in self.entries:
                if not line.skipped:
                    say(f"{self.row}: run {number + 1} of {runs}, {sender.name}")
                    self._one(sender, line, size, count)
        if count_syncs:
            self._count_syncs()

    def _one(self, sender, line, size, count):
        try:
            line.runs.append(sender.run(size, count))
        except Failed as why:
            line.skipped, line.runs, self.result.failed = f"failed: {why}", [], True

    def _count_syncs(self):
        """In a run that is not timed."""
        why = syncs.why_not()
        if why:
            self.result.notes.append(f"syncs were not counted: {why}")
            return
        for sender, line, size, count in self.entries:
            if line.runs and sender.syncs_matter:
                say(f"{self.row}: syncs of {sender.name}")
                count = min(count, QUICK_SYNCS_FROM if self.bench.quick else SYNCS_FROM)
                try:
                    line.syncs = sender.count_syncs(size, count) / count
                except Failed as why:
                    self.result.notes.append(f"syncs of {sender.name}: {why}")


def say(what):
    """How far it is; not part of the result."""
    if sys.stderr.isatty():
        print(f"\r\033[K… {what}", end="", file=sys.stderr, flush=True)
    elif os.environ.get("BENCH_SAY"):
        print(f"… {what}", file=sys.stderr, flush=True)
