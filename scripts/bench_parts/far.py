"""The row of one connection to a host whose every reply comes 50 ms late: what is gained by not waiting for each."""

from .bench import Contest, Result
from .senders import Bare, Mailroot, Sink

AWAY = 50  # milliseconds
SIZE = 1024


class FarHost:
    name, what, seconds, quick = "far-host", f"one connection to a host that is {AWAY} ms away, 1 KB files", 150, True

    def measure(self, bench):
        """Lock-step takes four round trips for a message, so it gets few."""
        few, runs = (1, 1) if bench.quick else (3, None)
        result = Result(f"{self.name}: {self.what}")
        data = Sink(bench.sink_program, "--away", str(AWAY))
        bdat = Sink(bench.sink_program, "--away", str(AWAY), "--chunking")
        try:
            contest = Contest(bench, self.name, result)
            by_bdat = contest.enter(Mailroot(bench, bdat, "mailroot, BDAT", 1), SIZE, 70 * few)
            by_data = contest.enter(Mailroot(bench, data, "mailroot, DATA", 1), SIZE, 20 * few)
            lock_step = contest.enter(
                Bare(bench, data, "lock-step DATA", "--lockstep", connections=1), SIZE, 6 * few, "mailroot, DATA")
            bare_data = contest.enter(Bare(bench, data, "bare loop, DATA", connections=1), SIZE, 20 * few, "mailroot, DATA")
            bare_bdat = contest.enter(
                Bare(bench, bdat, "bare loop, BDAT", "--bdat", connections=1), SIZE, 70 * few, "mailroot, BDAT")
            contest.run(runs, count_syncs=False)
        finally:
            data.close()
            bdat.close()
        result.ratio("times lock-step, CHUNKING offered", by_bdat, lock_step, 8)
        result.ratio("times lock-step, only PIPELINING offered", by_data, lock_step, 1.8)
        result.told("bare loop, times lock-step: BDAT", bare_bdat, lock_step)
        result.told("bare loop, times lock-step: DATA", bare_data, lock_step)
        return result
