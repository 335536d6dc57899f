"""The rows of a million: files that wait in Pickup, and deferred messages that wait in Queue."""

import os
import statistics
import subprocess
import time

from .bench import Bar, Result, say
from .engine import Engine
from .senders import Failed, Sink, message

STARTED = 600  # seconds that a start may take before the row is given up
SIZE = 1024
SMALL = 300  # bytes of a message that nobody sends
BYTES_EACH = 6_000, 12_000  # what a file in Pickup, and a message in Queue, takes of the disk with all that belongs to it


def no_room(bench, count, each):
    """None, or why this many cannot be laid out."""
    wanted = count * each
    if bench.place.room() > wanted:
        return None
    return f"it wants {wanted >> 30} GiB of disk, and there are {bench.place.room() >> 30}; --million N makes it smaller"


def mebi(kib):
    return f"{kib / 1024:,.0f} MiB"


class PickupMillion:
    """Sent by `run`, watched from outside."""
    name, what, seconds, quick = "pickup-million", "files of 1 KB in Pickup, `run` is started", 270, False

    def measure(self, bench):
        count = bench.million
        result = Result(f"{self.name}: {count:,} {self.what}")
        if why := no_room(bench, count, BYTES_EACH[0]):
            result.notes.append(f"not measured: {why}")
            return result
        say(f"{self.name}: filling Pickup")
        with bench.place.fresh(self.name) as disk:
            root = bench.mailroot_at(disk / "mailroot", bench.bdat)
            bench.fill(root / "Pickup", SIZE, count)
            try:
                with Engine(bench, root) as engine:
                    seen = self._watch(bench, engine, count)
                    peak, cpu = engine.peak_kib(), engine.cpu()
                bench.bdat.settle(count)
            except Failed as why:
                bench.bdat.forget()
                result.unmeasured(why)
                return result
        self._judge(result, seen, count, peak, cpu)
        return result

    def _watch(self, bench, engine, count):
        """(seconds, messages so far), until all are there."""
        seen, said = [], 0
        while not seen or seen[-1][1] < count:
            time.sleep(0.02 if not seen or seen[-1][1] == 0 else 0.1)
            so_far = bench.bdat.ask("count")["messages"] - bench.bdat.seen
            seen.append((engine.age(), so_far))
            if so_far == 0 and seen[-1][0] > STARTED or seen[-1][0] > 3 * STARTED:
                raise Failed(f"{so_far:,} of {count:,} messages came in {seen[-1][0]:.0f} s")
            if so_far - said >= count // 100:
                said = so_far
                say(f"{self.name}: {so_far:,} sent")
        return seen

    def _judge(self, result, seen, count, peak, cpu):
        first = next(at for at, so_far in seen if so_far > 0)

        def at(share):
            return next(at for at, so_far in seen if so_far >= count * share)

        tenths = [count / 10 / (at((n + 1) / 10) - (at(n / 10) if n else first)) for n in range(10)]
        result.bars += [
            Bar("first delivery", "≤ 1 s", f"{first:.2f} s", first <= 1),
            Bar("rate of the last tenth, times that of the first", "≥ 0.8", f"{tenths[9] / tenths[0]:.2f}",
                tenths[9] >= 0.8 * tenths[0]),
            Bar("peak memory", "≤ 200 MB", mebi(peak), peak * 1024 <= 200_000_000),
        ]
        result.notes.append("files a second, tenth by tenth: " + ", ".join(f"{rate:,.0f}" for rate in tenths))
        result.notes.append(f"all in {seen[-1][0]:.0f} s; CPU s / 1000: {cpu / count * 1000:.3f}; one run")


class QueueMillion:
    """All deferred, but for one that is due: when that one is delivered, all have been looked at."""
    name, what, seconds, quick = "queue-million", "deferred messages in Queue", 330, False
    LISTED = 100_000

    def measure(self, bench):
        count = bench.million
        result = Result(f"{self.name}: {count:,} {self.what}")
        if why := no_room(bench, count, BYTES_EACH[1]):
            result.notes.append(f"not measured: {why}")
            return result
        sink = Sink(bench.sink_program, "--chunking")
        try:
            with bench.place.fresh(self.name) as disk:
                self._measure(bench, sink, disk, count, result)
        except Failed as why:
            result.unmeasured(why)
        finally:
            sink.close()
        self._listing_by_postfix(bench, result)
        return result

    def _measure(self, bench, sink, disk, count, result):
        empty = bench.mailroot_at(disk / "empty", sink)
        full = bench.mailroot_at(disk / "full", sink)
        say(f"{self.name}: filling Queue")
        bench.defer(full / "Queue", SMALL, count)
        runs = 3 if bench.asked_runs is None else bench.asked_runs
        with Engine(bench, empty) as engine:
            self._deliver(bench, sink, engine, 1)
            bare = engine.resident_kib()
            without = [self._deliver(bench, sink, engine, 20_000) for _ in range(runs)]
        due = self._make_one_due(full / "Queue")
        with Engine(bench, full) as engine:
            ready = self._ready(sink, engine)
            resident, peak = engine.resident_kib(), engine.peak_kib()
            say(f"{self.name}: idle")
            time.sleep(5)
            before = engine.cpu(), engine.age()
            time.sleep(30)
            idle = (engine.cpu() - before[0]) / (engine.age() - before[1])
            new = self._deliver(bench, sink, engine, 1)
            within = [self._deliver(bench, sink, engine, 20_000) for _ in range(runs)]
            peak_after = engine.peak_kib()
        with_, without_ = statistics.median(within), statistics.median(without)
        each = (resident - bare) * 1024 / count
        result.bars += [
            Bar("start-up to ready", "≤ 20 s", f"{ready:.1f} s", ready <= 20),
            Bar("memory for each waiting message", "≤ 200 bytes", f"{each:.0f} bytes", each <= 200),
            Bar("CPU while nothing is due", "< 5 % of a core", f"{idle * 100:.1f} %", idle < 0.05),
            Bar("new mail, files a second, of what an empty Queue allows", "≥ 0.8", f"{with_ / without_:.2f}",
                with_ >= 0.8 * without_),
        ]
        result.notes += [
            f"ready: a message in Queue that is due ({due}) has been delivered, so all have been looked at",
            f"memory: {mebi(bare)} with an empty Queue, {mebi(resident)} when ready (peak {mebi(peak)}, {mebi(peak_after)} at the end)",
            f"new mail, {runs} times 20,000 files renamed into Pickup: {_all(within)} a second, with an empty Queue {_all(without)}",
            f"one new file, renamed in: {1000 / new:.1f} ms",
        ]
        self._listing(full / "Queue", count, result)

    def _make_one_due(self, queue):
        """Its time is not that of its record: somebody touched it. Returns the name, for the reader."""
        with os.scandir(queue) as entries:
            name = next(entry.name for entry in entries if entry.name.endswith(".EML"))
        os.utime(queue / name)
        os.utime(queue / name, (time.time() + 60, time.time() + 60))
        return name

    def _ready(self, sink, engine):
        say(f"{self.name}: starting")
        while sink.ask("count")["messages"] == sink.seen:
            if engine.age() > STARTED:
                raise Failed(f"not ready after {STARTED} s")
            time.sleep(0.05)
        ready = engine.age()
        sink.settle(1)
        return ready

    def _deliver(self, bench, sink, engine, count):
        """Files a second, renamed into Pickup as fast as may be."""
        say(f"{self.name}: {count:,} new")
        staged = engine.root.with_name("staged")
        staged.mkdir(exist_ok=True)
        bench.fill(staged, SIZE, count)
        names = os.listdir(staged)
        time.sleep(1)
        began = time.perf_counter()
        for name in names:
            os.rename(staged / name, engine.root / "Pickup" / name)
        sink.expect(count)
        seconds = time.perf_counter() - began
        sink.settle(count)
        return count / seconds

    def _listing(self, queue, count, result):
        say(f"{self.name}: listing")
        began = time.perf_counter()
        subprocess.run(f"ls {queue} | wc -l", shell=True, check=True, stdout=subprocess.DEVNULL)
        result.notes.append(f"a listing: `ls Queue` of {count:,} messages takes {time.perf_counter() - began:.1f} s")

    def _listing_by_postfix(self, bench, result):
        if bench.postfix.available():
            return result.notes.append(f"a listing by Postfix: not measured: {bench.postfix.available()}")
        say(f"{self.name}: Postfix lists")
        try:
            seconds = bench.postfix.list_deferred(self.LISTED)
            result.notes.append(f"a listing by Postfix: `postqueue -p` of {self.LISTED:,} messages takes {seconds:.1f} s")
        except (Failed, OSError) as why:
            result.notes.append(f"a listing by Postfix: not measured: {why}")


def _all(rates):
    return ", ".join(f"{rate:,.0f}" for rate in rates)
