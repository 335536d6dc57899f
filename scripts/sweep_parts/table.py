"""What is printed."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

# From so many calls a message may come twice by SMTP: the last send of the content, the recv of the reply (two when the
# reply to a chunk before it is read too), and then one unlink; or, when the message needs a record, its open, write, sync
# and rename. Between them lie as many moments: a kill after one call is a kill before the next. Counted are a message's
# own calls. On a connection that carries several at once others are settled meanwhile, one of them perhaps with a report:
# those calls are shown apart, and what bounds them is how many messages can be under way (judge.at_once).
MOST_STEPS = 6
COLUMNS = ("lost", "damaged", "wrong", "stuck", "left", "twice_here", "forbidden")


@dataclass
class Tally:
    name: str
    phases: Counter = field(default_factory=Counter)
    counts: Counter = field(default_factory=Counter)
    steps: dict = field(default_factory=lambda: defaultdict(set))
    seconds: float = 0

    @property
    def points(self):
        return sum(self.phases.values())

    def add(self, done):
        self.phases[done.task.kills[0][-1]] += 1
        self.seconds += done.seconds
        for kind, there in done.lists.items():
            self.counts[kind] += there
        for what, copies, step in done.twice:
            self.steps[what].add(step)
            self.counts["copies"] = max(self.counts["copies"], copies - 1)
        self.counts["at once"] = max(self.counts["at once"], done.at_once)

    def row(self):
        phases = max(map(phases_of, self.steps.values()), default=0)
        calls = max(map(calls_of, self.steps.values()), default=0)
        others = max((int(step.split(":")[3]) for steps in self.steps.values() for step in steps if step.count(":") == 3), default=0)
        return [self.name, *(self.phases[phase] for phase in "bma"), self.points, *(self.counts[kind] for kind in COLUMNS),
                self.counts["twice"], self.counts["copies"], self.counts["at once"], f"{phases}/{calls}" if calls else "-", others,
                self.counts["waits"]]

    def too_often(self):
        return [what for what, steps in self.steps.items() if calls_of(steps) > MOST_STEPS]


def calls_of(steps):
    return len({step.split(":")[0] for step in steps})


def phases_of(steps):
    return len({step.rsplit(":", 1)[0] for step in steps if ":other:" not in step})


HEAD = ("batch", "before", "middle", "after", "points", "lost", "damaged", "wrong", "stuck", "left", "2x here", "2x bad",
        "2x smtp", "copies", "at once", "per msg", "others", "remains")
WORDS = f"""\
wrong: to somebody who is not to get it; left: something lies there that should not; 2x here: twice in Drop or Badmail;
2x bad: twice by SMTP without excuse; 2x smtp: points at which a message came twice by SMTP, killed between the end of its
content and its record; copies: the most extra copies of one message; at once: the most messages of one connection that came
twice by one run (more than delivery.max_in_flight are a fault, or than one where the host has no CHUNKING); per msg: the most
such points of one message at its own calls, by phase / by call (more than {MOST_STEPS} calls are a fault); others: the most calls
beside them that settled other messages of its connection; remains: a record or transcript without a message, which waits ten minutes by the contract
(files of the proof of the storage at the start, which wait as long, are made old and must then go)"""


def show_table(tallies):
    rows = [tally.row() for tally in tallies if tally.points]
    if not rows:
        return
    total = ["in all", *(sum(row[at] for row in rows) for at in range(1, 13))]
    worst = [one.split("/") for one in (row[15] for row in rows) if one != "-"]
    total += [max(row[13] for row in rows), max(row[14] for row in rows),
              "/".join(str(max(map(int, one))) for one in zip(*worst)) or "-", max(row[16] for row in rows),
              sum(row[17] for row in rows)]
    widths = [max(len(str(row[at])) for row in [HEAD, *rows, total]) for at in range(len(HEAD))]
    for row in [HEAD, *rows, total]:
        print("  ".join(f"{cell!s:<{width}}" if at == 0 else f"{cell!s:>{width}}" for at, (cell, width) in enumerate(zip(row, widths))))
    print(WORDS)


def show_faults(faults, most=40):
    for done in faults[:most]:
        print(f"scripts/crash-sweep --only {done.task.point}   killed {done.hit or 'nowhere'}, then {done.task.recovery}"
              + (f"; kept in {done.kept}" if done.kept else ""))
        for fault in done.faults:
            print(f"    {fault}")
    if len(faults) > most:
        print(f"… and {len(faults) - most} points more")


def show_controls(rows):
    """Says whether the sweep is void."""
    void = False
    for name, batch, fault, points, seen in rows:
        void |= not seen
        print(f"control `{name}` (batch {batch}): {fault} at {seen} of {points} points" + ("" if seen else ": THE SWEEP IS VOID"))
    return void
