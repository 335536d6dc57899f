"""What is tried: each case is one trouble, or one place where many troubles of one call each come one after the other."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import Callable

from .play import one_by_one, whole_story

ERRORS = ["EIO", "ENOSPC", "EDQUOT", "EMFILE", "EROFS", "ESTALE", "ENOTCONN", "ENOLCK", "EINTR"]
# Which calls mailroot makes where while it runs. A rule that no call meets fails its case.
REACHED = {
    "Pickup": "rename fsync lookup read readdir stat flock lease",
    "Queue": "rename unlink open write fsync lookup read readdir stat",
    "Drop": "rename open write fsync lookup",
    "Badmail": "rename open write fsync lookup",
    "Status": "open write truncate readdir",
    "tcp": "socket connect send recv",
}
ALL_CALLS = "rename,unlink,link,mkdir,open,write,truncate,fsync,connect,send,recv,lookup,read,stat,flock,socket,lease"
# Mail that the trouble in a folder does not concern goes on.
GOES_ON = {"Drop": ["smtp"], "Badmail": ["smtp", "drop"], "tcp": ["drop"]}
MIX = ["drop", "smtp", "both", "later", "refused", "null", "broken"]


def nothing(_world):
    return None


@dataclass
class Case:
    name: str
    what: str = ""
    begin: Callable = nothing
    end: Callable = nothing
    scenes: Callable = whole_story
    before: list = field(default_factory=lambda: ["drop", "smtp"])
    during: list = field(default_factory=lambda: [*MIX, "drop", "smtp"])
    after: list = field(default_factory=lambda: ["drop", "smtp", "null"])
    goes_on: list = field(default_factory=list)
    lasts: float = 3.0
    patience: float = 25.0  # how long mail is waited for, to tell late from lost
    stop_amid: bool = False
    must_say: bool = True
    must_hit: bool = False
    preloaded: bool = False
    needs_root: bool = False
    reads_drop: bool = False  # an application takes each file out of Drop at once
    rules: list = field(default_factory=list)
    bad: str = "good"
    names: str = "good"
    timeout: str = "3s"
    delivery: str = ""
    settings: str = ""
    prepare: Callable = nothing
    clean: Callable = nothing
    further: Callable = lambda _world: []
    quick: bool = False
    control: bool = False


def all_cases():
    return [*lasting(), *hangs(), *once(), *points(), *readers(), *folders(), *volumes(), *full(), *clocks(), *names(), *peers()]


# --- calls that fail ------------------------------------------------------------------------------------------------

def ruled(name, rule, place, call, **how):
    """A rule that is in force as long as the trouble lasts."""
    goes_on = GOES_ON.get(place, [])
    if call == "fsync":
        goes_on = []  # a failed sync: that disk is no longer believed, intake stops (contract §3)
    if place == "tcp" and "HANG" in rule:
        how["must_say"] = False  # the system ends such calls by their time limit; only the stop is tried here
    if place == "Badmail" and "HANG" in rule:
        goes_on = []  # not promised: who buries waits for the storage, and others wait for him
    if call in ("socket", "connect"):
        how["before"] = ["drop"]  # else the connection that is kept makes these calls superfluous
    return Case(name, begin=lambda world: world.rules(rule), end=lambda world: world.rules(""), goes_on=goes_on,
                preloaded=True, must_hit=True, stop_amid=True, **how)


def lasting():
    quick = {("fsync", "Queue", "EIO"), ("rename", "Pickup", "ESTALE"), ("open", "Drop", "EROFS"), ("write", "Badmail", "ENOSPC"),
             ("write", "Queue", "ENOSPC"), ("write", "Status", "EDQUOT"), ("readdir", "Queue", "ENOTCONN"),
             ("lookup", "Pickup", "EMFILE"), ("connect", "tcp", "EMFILE"), ("unlink", "Queue", "EIO")}
    for place, calls in REACHED.items():
        for call in calls.split():
            for error in ERRORS:
                # A call that is interrupted without end is no trouble that exists; every second one is.
                often = ":1::2" if error == "EINTR" else ""
                yield ruled(f"lasting-{call}-{place}-{error}", f"{call}@{path(place)}={error}{often}", place, call,
                            quick=(call, place, error) in quick)


def hangs():
    quick = {("open", "Queue"), ("fsync", "Drop"), ("readdir", "Pickup"), ("stat", "Queue")}
    for place, calls in REACHED.items():
        for call in calls.split():
            yield ruled(f"hang-{call}-{place}", f"{call}@{path(place)}=HANG", place, call, lasts=8.0, quick=(call, place) in quick)
    for place, calls in REACHED.items():
        calls = calls.replace(" ", ",") if place == "tcp" else "*"
        yield ruled(f"hang-all-{place}", f"{calls}@{path(place)}=HANG", place, "*", lasts=8.0)
    rules = ";".join(f"*@{path(place)}=HANG" for place in REACHED if place != "tcp")
    yield ruled("hang-all", rules, "all", "*", lasts=8.0, quick=True)


def path(place):
    return place if place == "tcp" else f"/tree/{place}"


def once():
    """Each errno at the first, second, third and fifth call of a class in a folder."""
    quick = {("rename", "Queue"), ("fsync", "Drop"), ("recv", "tcp")}
    for place, calls in REACHED.items():
        for call in calls.split():
            rules = [f"{call}@{path(place)}={error}:{n}:1" for error in ERRORS for n in (1, 2, 3, 5)]
            yield Case(f"once-{call}-{place}", scenes=one_by_one, rules=rules, preloaded=True, must_hit=True,
                       during=["drop", "smtp", "null", "later"] if place == "Badmail" else ["both", "later", "refused"],
                       quick=False)
            if (call, place) in quick:
                yield Case(f"once-{call}-{place}-short", scenes=one_by_one, rules=rules[:4], preloaded=True, must_hit=True,
                           during=["both", "later", "refused"], quick=True)


def points(last=160, at_a_time=10):
    """The n-th call of all, whatever it is, with the errnos in turn."""
    for first in range(1, last, at_a_time):
        numbers = range(first, min(first + at_a_time, last + 1))
        rules = [f"{ALL_CALLS}@={ERRORS[n % len(ERRORS)]}:{n}:1" for n in numbers]
        yield Case(f"point-{first}-{numbers[-1]}", scenes=one_by_one, rules=rules, preloaded=True, must_hit=True,
                   during=MIX, quick=first == 31)


def readers():
    """An application takes files out of Drop at once: a repeat would not replace the former file but be a second one.
    So of a message that stays nothing comes into Drop while it cannot be recorded."""
    for call, place in (("rename", "Drop"), ("write", "Drop"), ("open", "Queue"), ("write", "Queue"), ("rename", "Queue"),
                        ("unlink", "Queue"), ("fsync", "Queue"), ("stat", "Queue")):
        yield ruled(f"reader-{call}-{place}", f"{call}@{path(place)}=EIO", place, call, reads_drop=True,
                    quick=(call, place) == ("write", "Queue"))
    yield ruled("reader-hang-Queue", f"*@{path('Queue')}=HANG", "Queue", "*", reads_drop=True, lasts=8.0, quick=True)


# --- folders and volumes --------------------------------------------------------------------------------------------

def folders():
    """A folder is renamed away and back, and removed and made again."""
    for place in ("Pickup", "Queue", "Drop", "Badmail", "Status"):
        def away(world, place=place):
            os.rename(world.tree / place, world.folder / f"{place}-away")

        def back(world, place=place):
            gone = world.folder / f"{place}-away"
            if not gone.exists():
                return
            here = world.tree / place
            if here.exists():  # it was made again by us or by mailroot: what lies in it stays
                gather(here, gone)
                shutil.rmtree(here)
            os.rename(gone, here)

        goes_on = GOES_ON.get(place, [])
        yield Case(f"folder-{place}-renamed", "renamed away, then back", away, back, goes_on=goes_on, stop_amid=place != "Pickup",
                   quick=place == "Drop")

        def removed(world, place=place):
            shutil.rmtree(world.tree / place)

        def made(world, place=place):
            folder = world.tree / place
            if not folder.exists():
                folder.mkdir()
                folder.chmod({"Pickup": 0o1777, "Drop": 0o2770, "Status": 0o755}.get(place, 0o700))

        yield Case(f"folder-{place}-removed", "removed while empty or read, then made again", removed, made, goes_on=goes_on,
                   quick=place == "Pickup")


def gather(source, target):
    for root, _, files in os.walk(source):
        there = target / os.path.relpath(root, source)
        there.mkdir(parents=True, exist_ok=True)
        for file in files:
            if not (there / file).exists():
                os.rename(os.path.join(root, file), there / file)


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


def unmount(path):
    subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


def volumes():
    """The volume of a folder is unmounted under the engine: nothing may be written into the empty folder beneath."""
    for place in ("Pickup", "Queue", "Drop", "Badmail", "Status"):
        def prepare(world, place=place):
            side, here = world.folder / "side", world.tree / place
            side.mkdir()
            here.mkdir()
            mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", side)
            inner = side / place
            inner.mkdir()
            inner.chmod({"Pickup": 0o1777, "Drop": 0o2770, "Status": 0o755}.get(place, 0o700))
            mount("--bind", inner, here)

        def begin(world, place=place):
            unmount(world.tree / place)

        def end(world, place=place):
            if not os.path.ismount(world.tree / place):
                mount("--bind", world.folder / "side" / place, world.tree / place)

        def further(world, place=place):
            unmount(world.tree / place)
            beneath = [one for one in os.listdir(world.tree / place) if not one.startswith(".during")]
            return [f"written into the empty folder beneath: {beneath[:3]}"] if beneath else []

        def clean(world, place=place):
            unmount(world.tree / place)
            unmount(world.folder / "side")

        yield Case(f"volume-{place}", "unmounted under the engine, mounted again", begin, end, prepare=prepare, clean=clean,
                   further=further if place != "Pickup" else lambda _world: [], needs_root=True,
                   goes_on=GOES_ON.get(place, []), stop_amid=place != "Pickup", quick=place == "Drop")


def full():
    """A small tmpfs is filled to the last byte, and gets room again."""
    for place in ("tree", "Pickup", "Queue", "Drop", "Badmail", "Status"):
        def prepare(world, place=place):
            here = world.tree if place == "tree" else world.tree / place
            settings = (world.tree / "mailroot.toml").read_text()
            here.mkdir(exist_ok=True)
            mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", here)
            here.chmod(0o1777)
            if place == "tree":
                (world.tree / "mailroot.toml").write_text(settings)

        def fill(world, place=place):
            here = world.tree if place == "tree" else world.tree / place
            with open(here / ".filler", "ab", buffering=0) as filler:
                for size in (65536, 4096, 1):
                    try:
                        while filler.write(b"x" * size) == size:
                            pass
                    except OSError:
                        continue

        def empty(world, place=place):
            here = world.tree if place == "tree" else world.tree / place
            (here / ".filler").unlink(missing_ok=True)

        def clean(world, place=place):
            unmount(world.tree if place == "tree" else world.tree / place)

        during = ["null"] * 6 + ["broken"] * 4 + ["drop", "smtp", "both"] if place == "Badmail" else MIX
        yield Case(f"full-{place}", "a tmpfs of 4 MiB is filled", fill, empty, prepare=prepare, clean=clean, needs_root=True,
                   during=during, goes_on=GOES_ON.get(place, []), stop_amid=place != "tree", quick=place in ("Queue", "Badmail"))


# --- clock, DNS, hosts ----------------------------------------------------------------------------------------------

def clocks():
    day = 86400
    for name, jump in (("+30d", 30 * day), ("-10y", -3652 * day)):
        def begin(world, jump=jump):
            world.clock.write_text(str(jump))

        def end(world):
            world.clock.write_text("0")

        # Waiting mail would expire, and be returned, when the clock says that two days are over.
        patient = 'expire = "60d"'
        yield Case(f"clock{name}", f"the clock jumps by {name} and back", begin, end, preloaded=True, delivery=patient, before=["drop", "smtp", "waits"],
                   goes_on=["drop", "smtp", "both", "null", "broken"], stop_amid=True, must_say=False, quick=True)
        yield Case(f"clock{name}-twice", "again and again", lambda world, begin=begin: begin(world), end, preloaded=True, delivery=patient,
                   during=MIX * 4, goes_on=["drop", "smtp"], must_say=False)


def names():
    for mode in ("closed", "hole"):
        yield Case(f"dns-{mode}", "DNS is down, and comes back", lambda world, mode=mode: world.names.become(mode),
                   lambda world: world.names.become("good"), names=mode, during=["mx", "mx", "drop", "smtp"], after=["mx", "drop"],
                   goes_on=["drop", "smtp"], lasts=12.0, stop_amid=True, quick=mode == "hole")


def peers():
    words = {"refused": "refuses connections", "hole": "never accepts a connection", "silent": "accepts and says nothing",
             "stall": "stalls after 354", "drip": "sends a byte a second"}
    for mode, what in words.items():
        for timeout in ("3s", "5m"):
            slow = timeout == "5m"
            yield Case(f"peer-{mode}{'-patient' if slow else ''}", f"a host {what}, beside a good one",
                       lambda world, mode=mode: world.bad.become(mode), lambda world: world.bad.become("good"), bad=mode,
                       timeout=timeout, during=["bad"] * 5 + ["drop", "smtp", "both"], after=["bad", "drop", "smtp"],
                       goes_on=["drop", "smtp", "both"], lasts=8.0 if mode == "stall" else 5.0, stop_amid=True, must_say=not slow,
                       quick=(mode, timeout) in (("refused", "3s"), ("stall", "5m")))

    def all_down(world):
        world.good.become("refused")
        world.bad.become("hole")

    def all_up(world):
        world.good.become("good")
        world.bad.become("good")

    yield Case("peers-all-down", "no host can be reached; Drop goes on", all_down, all_up, during=["smtp"] * 20 + ["bad"] * 20 + ["drop"] * 5,
               goes_on=["drop"], lasts=5.0, stop_amid=True, quick=True)
