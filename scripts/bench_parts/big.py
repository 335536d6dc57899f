"""The row of 10 MB messages: beside a plain copy of the same bytes, and whether memory grows with the message."""

import statistics

from .bench import Bar, Contest, Result, say
from .senders import Bare, Failed, Flood, Mailroot, message

MIB = 1024 * 1024
COPY = 0.7  # of a plain copy
COUNT = 100  # a second's work, beside which the start of the program does not count
GROWTH_KIB = 4096  # what the peak may differ by between messages of 1 MB and of 30 MB


class Copy(Bare):
    """`sink copy` of files that are as the wire wants them."""

    def prepare(self, home, size, count):
        (home / "wire").mkdir()
        content = message(size, 0).split(b"\n", 2)[2].replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        for number in range(count):
            (home / f"wire/{number:07}").write_bytes(content)
        return [self.bench.sink_program, "copy", home / "wire", str(self.sink.port), *self.options]


class Big:
    name, what, seconds, quick = "10m-smarthost", "10 MB files to one host", 420, False

    def measure(self, bench):
        count, size = 8 if bench.quick else COUNT, 10 * MIB
        result = Result(f"{self.name}: {count:,} {self.what}, at most {bench.connections} connections")
        contest = Contest(bench, self.name, result)
        by_data = contest.enter(Mailroot(bench, bench.data, "mailroot, DATA"), size, count)
        by_bdat = contest.enter(Mailroot(bench, bench.bdat, "mailroot, BDAT"), size, count)
        copy = contest.enter(Copy(bench, bench.data, "plain copy, DATA"), size, count, "mailroot, DATA")
        if not bench.quick:
            contest.enter(bench.postfix, size, count, "mailroot, DATA")
        contest.enter(Bare(bench, bench.data, "bare loop, DATA"), size, count, "mailroot, DATA")
        contest.enter(Bare(bench, bench.bdat, "bare loop, BDAT", "--bdat"), size, count, "mailroot, BDAT")
        contest.enter(Flood(bench, bench.data, "sink alone, DATA"), size, count, "mailroot, DATA")
        contest.run(count_syncs=not bench.quick)
        result.ratio("of a plain copy of the stuffed bytes", by_data, copy, COPY)
        result.told("mailroot with BDAT, of that copy", by_bdat, copy)
        if by_data.rate:
            result.notes.append(f"mailroot, DATA: {by_data.rate * size / MIB:,.0f} MiB/s")
        self._memory(bench, result, 8 if bench.quick else 24)
        return result

    def _memory(self, bench, result, count):
        """The same number of messages, thirty times as long."""
        try:
            peaks = []
            for mib in (1, 30):
                say(f"{self.name}: memory with {mib} MB")
                sender = Mailroot(bench, bench.data, "mailroot, memory")
                peaks.append(statistics.median(sender.run(mib * MIB, count).peak_kib for _ in range(3)))
        except Failed as why:
            return result.unmeasured(why)
        growth = peaks[1] - peaks[0]
        result.bars.append(Bar(
            f"peak memory, {count} files of 30 MB against as many of 1 MB", f"≤ {GROWTH_KIB // 1024} MiB more",
            f"{peaks[1] / 1024:.1f} against {peaks[0] / 1024:.1f} MiB", growth <= GROWTH_KIB))
