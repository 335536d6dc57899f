"""The rows of files of one size from Pickup to one host on loopback, all senders beside each other."""

from .bench import Bar, Contest, Result
from .peers import Dma, EMailRelay, OpenSmtpd
from .senders import Bare, Flood, Mailroot, Smtplib

BARE = 0.6  # of the bare loop
# As many files as this makes are enough to know Postfix by.
POSTFIX_BYTES = 100_000_000
# How many messages the small ones get: they are slow, and one starts a process for each.
SMALL = {Dma: 1_000, OpenSmtpd: 200, EMailRelay: 200}


class SmartHost:
    """One size."""

    def __init__(self, name, size, count, quick_count, what, *, seconds, postfix=20, peers=False):
        """`postfix`: how many times its rate; `peers`: with the small ones and smtplib beside, and what CI looks at."""
        self.name, self.size, self.count, self.quick_count = name, size, count, quick_count
        self.what, self.seconds, self.quick, self.postfix, self.peers = what, seconds, peers, postfix, peers

    def measure(self, bench):
        count = self.quick_count if bench.quick else self.count
        result = Result(f"{self.name}: {count:,} {self.what}, at most {bench.connections} connections")
        contest = Contest(bench, self.name, result)
        lines = {}

        def enter(sender, beside, count=count):
            lines[sender.name] = contest.enter(sender, self.size, count, beside)
            return lines[sender.name]

        ours = {way: enter(Mailroot(bench, sink, f"mailroot, {way}"), "") for way, sink in self._ways(bench)}
        enter(bench.postfix, "mailroot, DATA", min(count, POSTFIX_BYTES // self.size))
        if self.peers:
            enter(Smtplib(bench, bench.data), "mailroot, DATA")
            for kind, many in SMALL.items():
                enter(bench.left_out(kind) if bench.quick else bench.staying(kind), "mailroot, DATA", min(count, many))
        for way, sink in self._ways(bench):
            options = ["--bdat"] if way == "BDAT" else []
            enter(Bare(bench, sink, f"bare loop, {way}", *options), f"mailroot, {way}")
            enter(Bare(bench, sink, f"bare loop with a journal, {way}", "--journal", *options), f"mailroot, {way}")
            enter(Flood(bench, sink, f"sink alone, {way}", *options), f"mailroot, {way}")
        contest.run()
        self._judge(result, lines, ours)
        return result

    def _ways(self, bench):
        return (("DATA", bench.data), ("BDAT", bench.bdat))

    def _judge(self, result, lines, ours):
        data = ours["DATA"]
        result.ratio("times Postfix", data, lines["Postfix"], self.postfix)
        if self.peers:
            measured = [lines[kind.name] for kind in SMALL if lines[kind.name].rate]
            best = max(measured, key=lambda line: line.rate, default=None)
            result.ratio(f"times the best of {', '.join(kind.name for kind in SMALL)}", data, best, 5)
            result.ratio("times the loop over smtplib", data, lines["Python smtplib"], 4)
        for way, line in ours.items():
            result.ratio(f"of the bare loop, {way}", line, lines[f"bare loop, {way}"], BARE)
        if self.peers and data.cpu and lines["Postfix"].cpu:
            share = data.cpu / lines["Postfix"].cpu
            result.bars.append(Bar("CPU, times that of Postfix", "≤ 0.1", f"{share:.3f}", share <= 0.1))
        for way, line in ours.items():
            bare, sink = lines[f"bare loop, {way}"], lines[f"sink alone, {way}"]
            if bare.rate and sink.rate:
                room = sink.rate / bare.rate
                result.bars.append(Bar(f"the sink alone, times the bare loop, {way}", "> 1", f"{room:.1f}", room > 1))
