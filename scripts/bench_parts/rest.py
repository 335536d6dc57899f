"""The rows of what is not a rate: memory under a backlog, start-up."""

import statistics
import subprocess
import time

from . import senders
from .bench import Bar, Line, Result, say
from .senders import Failed, Mailroot


class Backlog:
    """Many files lie in Pickup: memory must not grow with them."""
    name, what, seconds, quick = "pickup-backlog", "memory while 100,000 files of 1 KB lie in Pickup", 60, True

    def measure(self, bench):
        count = 10_000 if bench.quick else 100_000
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
            result.bars.append(Bar("peak memory", "≤ 200 MB", f"{peak / 1024:.1f} MiB", peak <= 200_000_000 / 1024))
            result.notes.append(f"per further file in Pickup: {growth:.0f} bytes")
        return result


class StartUp:
    """An empty mailroot."""
    name, what, seconds, quick = "start-up", "time of `drain` with nothing to do; time until `run` has delivered a file that lay there", 10, True

    def measure(self, bench):
        result = Result("start-up")
        times = 5 if bench.quick else 30
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
        result.bars.append(Bar("drain with nothing to do, start to end", "< 50 ms", in_ms(drains), drain < 0.050))
        result.bars.append(Bar("run: from its start until a file that lay in Pickup is accepted at the host", "", in_ms(runs)))
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
