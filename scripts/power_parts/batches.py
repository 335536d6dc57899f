"""The batches: letters in Pickup, what happens to them, and what must be there at the end.

An end is one of: smtp, drop, dsn, success, badmail. `ends` gives for each recipient a list of sets: of each set one
must come true. A step is one process under trace, or what the mail host or time does meanwhile.
"""

import functools
from dataclasses import dataclass, field

from .letters import body, letter

HERE = "local.example"
FOLDERS = ("Queue", "Drop", "Badmail", "Status", "Status/nodes", "Logs")


@dataclass
class Letter:
    name: str
    ends: dict  # recipient → [set of ends]
    sender: str = f"app@{HERE}"
    lines: int = 3
    notify: str = ""
    raw: bytes = b""
    other_place: str = ""  # another name in the tree than Pickup/NAME.eml

    @property
    def content(self):
        return self.raw or letter(self.name, self.sender, list(self.ends), self.lines, self.notify)

    @property
    def body(self):
        return body(self.name, self.lines)


@dataclass
class Batch:
    """`steps`: ("run", until) the service until `until` names something that has come about; ("drain",);
    ("drain", rule) killed by that rule of scripts/faults; ("move", from, to) and ("remove", path) by an operator, globs
    allowed."""

    name: str
    letters: list
    steps: list = field(default_factory=lambda: [("run", "empty")])
    settings: dict = field(default_factory=dict)  # section → lines
    more: dict = field(default_factory=dict)  # other files there at the start
    unsynced: bool = False  # the applications did not sync their files
    two_volumes: bool = False
    fresh: tuple = ()  # folders that the engine must make
    chunking: bool = False  # the host offers it: whole messages follow each other
    crashes: tuple = ()  # right after these calls, in any form: rules of scripts/faults

    @functools.cached_property
    def bodies(self):
        return {one.name: one.body for one in self.letters}


def smtp(*to):
    return dict.fromkeys(to, [{"smtp"}])


def drop(*to):
    return dict.fromkeys(to, [{"drop"}])


def dsn(*to):
    return dict.fromkeys(to, [{"dsn"}])


def second(*to):
    return dict.fromkeys(to, [{"smtp", "badmail"}])


A, B = f"a@{HERE}", f"b@{HERE}"
OUT = "app@remote.example"
SOON = {"delivery": ['retry = ["100ms"]'], "drop": ['retry = ["100ms"]']}


def with_settings(**more):
    return {**SOON, **{k: SOON.get(k, []) + v for k, v in more.items()}}


def mixed(name, **more):
    ends = {A: [{"drop"}], "ok1@remote.example": [{"smtp"}], "refused1@remote.example": [{"dsn"}],
            "later1@other.example": [{"smtp"}]}  # fmt: skip
    return Letter(name, ends, **more)


def all_batches():
    return [
        Batch("drop", [Letter("d1", drop(A)), Letter("d2", drop(A, B), lines=9000), Letter("d3", drop(B))]),
        Batch("smtp", [Letter("s1", smtp("ok1@remote.example")),
                       Letter("s2", smtp("ok1@remote.example", "ok2@remote.example"), lines=4000),
                       Letter("s3", smtp("ok3@other.example"))]),
        # Under way together on one connection: the first goes alone, the others in company.
        Batch("company", [Letter(f"c{n}", smtp(f"ok{n}@company.example")) for n in range(1, 5)]
              + [Letter("c5", dsn("refused5@company.example"), sender=OUT)],
              settings=with_settings(delivery=["max_connections = 1", "max_in_flight = 3"]), chunking=True),
        Batch("malformed", [Letter("m1", {"": [{"badmail"}]}, raw=b"X-Letter: m1\nthis is no header\n\n" + body("m1")),
                            Letter("m2", {"": [{"badmail"}]}, raw=b"X-Letter: m2\nSubject: to nobody\n\n" + body("m2"))]),
        Batch("refused", [Letter("r1", dsn("refused1@remote.example"), sender=OUT),
                          Letter("r2", dsn("refused2@remote.example"))]),
        Batch("success", [Letter("y1", {A: [{"drop"}, {"success"}]}, notify=" NOTIFY=SUCCESS", sender=OUT)]),
        Batch("null sender", [Letter("n1", {"refused1@remote.example": [{"badmail"}]}, sender="")]),
        Batch("deferral", [Letter("l1", smtp("later1@remote.example")), Letter("l2", smtp("later2@remote.example"), sender=OUT)],
              settings=with_settings(delivery=['delay_notice = "50ms"'])),
        Batch("expiry", [Letter("e1", dsn("never1@remote.example"), sender=OUT)],
              settings=with_settings(delivery=['expire = "900ms"', 'delay_notice = "0"'])),
        Batch("mixed", [mixed("x1"), mixed("x2", sender=OUT)], settings=SOON),
        Batch("resubmission", [Letter("b1", second("second1@remote.example"), sender="")],
              steps=[("drain",), ("move", "Badmail/*.BAD", "Pickup/again.eml"), ("run", "empty")]),
        Batch("quota", [Letter("q1", drop(A))], more={"Drop/filler": bytes(30000)},
              settings=with_settings(drop=["quota = 30100"]),
              steps=[("run", "record"), ("remove", "Drop/filler"), ("run", "empty")]),
        Batch("hold", [Letter("h1", smtp("later1@remote.example"))], settings={"delivery": ['retry = ["1s"]']},
              steps=[("drain",), ("move", "Queue/*.EML", "Queue/*.HOLD"), ("drain",),
                     ("move", "Queue/*.HOLD", "Queue/*.EML"), ("run", "empty")]),
        Batch("takeover", [Letter("t1", {A: [{"drop"}], "stall1@remote.example": [{"smtp"}]}), Letter("t2", drop(B)),
                           Letter("t3", smtp("stall2@other.example"))],
              steps=[("run", "stalled, killed"), ("drain",)]),
        Batch("other volume", [Letter("v1", drop(A)), Letter("v2", smtp("ok1@remote.example"), lines=3000),
                               Letter("v3", smtp("later1@other.example"))], two_volumes=True, settings=SOON),
        Batch("unsynced", [Letter("u1", smtp("later1@remote.example"), lines=500), Letter("u2", dsn("refused1@remote.example")),
                           mixed("u3")], unsynced=True, settings=SOON),
        Batch("fresh folders", [Letter("f1", drop(A)), Letter("f2", smtp("later1@remote.example"))], settings=SOON,
              fresh=FOLDERS),
        Batch("deep folder", [Letter("p1", drop(A)), Letter("p2", smtp("later1@remote.example"))], fresh=("Queue",),
              settings=with_settings(folders=['queue = "new/deep/Queue"'])),
    ]  # fmt: skip


def one_letter(name, ends, crashes=(), two_volumes=False, steps=(("drain",),), **more):
    """For crashes followed by cuts."""
    letters = [Letter(name.split()[-1], ends, **more)]
    return Batch(name, letters, settings=SOON, steps=list(steps), two_volumes=two_volumes, crashes=crashes)


def after(call, piece, nth=1):
    """The process ends after the nth such call whose path has this piece in it."""
    return f"{call}@{piece}=KILL:{nth}:1"


CLAIM = after("rename", ".eml")  # of an application's file in Pickup
PUT = [after("rename", "/Queue/NODE-", nth) for nth in (1, 2, 3)]  # an ENV, a report, a copy from another volume


def small_batches():
    """What each sync is for that only a crash followed by a cut can show, stands in syncs.FIRST."""
    crash = "crash, "
    then_run = (("drain",), ("run", "empty"))
    return [
        one_letter(crash + "drop", drop(A)),
        one_letter(crash + "smtp", smtp("ok1@remote.example")),
        # One has it and that is recorded, when the other is tried again (by the service: a drain would not wait for it).
        one_letter(crash + "record", smtp("ok1@remote.example", "later1@remote.example"), (PUT[0],), steps=(("run", "empty"),)),
        # The report waits in Queue while the records of what it is about go.
        one_letter(crash + "report", dsn("refused1@remote.example"), (PUT[0],), steps=then_run, sender="later2@remote.example"),
        one_letter(crash + "refused", dsn("refused1@remote.example"), sender=OUT),
        one_letter(crash + "returned", dsn("refused1@remote.example")),
        one_letter(crash + "malformed", {"": [{"badmail"}]}, raw=b"X-Letter: malformed\nthis is no header\n\n" + body("malformed")),
        one_letter(crash + "mixed", {A: [{"drop"}], "ok1@remote.example": [{"smtp"}], "refused1@other.example": [{"dsn"}]},
                   (CLAIM, *PUT)),
        one_letter(crash + "deferral", smtp("later1@remote.example"), steps=then_run),
        one_letter(crash + "other volume", smtp("ok1@remote.example"),
                   (CLAIM, PUT[0], after("unlink", "/Pickup/.01")), two_volumes=True),
    ]  # fmt: skip


def real_batch(more):
    """For real file systems: enough of all that something is always on its way, and so many more letters for Drop."""
    letters = []
    for n in range(8):
        letters += [
            Letter(f"rd{n}", drop(A, B), lines=n * 300),
            Letter(f"rs{n}", smtp(f"ok{n}@remote.example"), lines=n * 200),
            Letter(f"rr{n}", dsn(f"refused{n}@remote.example"), sender=OUT if n % 2 else f"app@{HERE}"),
            Letter(f"rl{n}", smtp(f"later{n}@other.example")),
            Letter(f"rm{n}", {"": [{"badmail"}]}, raw=b"X-Letter: rm%d\nthis is no header\n\n" % n + body(f"rm{n}")),
            mixed(f"rx{n}"),
        ]
    letters += [Letter(f"ra{n}", drop(A), lines=(3, 300, 3, 9000)[n % 4]) for n in range(more)]
    return Batch("real", letters, settings=SOON)
