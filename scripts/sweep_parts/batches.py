"""The batches: what lies in the tree at the start, what the settings are, what people do meanwhile.

Each covers some arrows of the contract. What must be there at the end is said by the letters.
"""

import json
import os
import signal
from pathlib import Path

from .letters import APP, Letter

DEAD = "GONE-DEAD"
BODY_WITH_PERIODS = b"one\r\n.two\r\n..three\r\n.\r\nfour\r\n"
LONG = b"".join(b"line %06d of a long message, to be sent in several blocks\r\n" % n for n in range(6000))


class Batch:
    """`mode`: whether the first engine is a `drain` or the service."""

    mode = "drain"
    settings = ""
    letters = ()
    other_volume = False
    # The points of an engine's start (the tree, the proof of the storage) are the same in all batches: those of two
    # batches are enough.
    from_the_start = False
    # Files that lie there at the end besides those that the letters tell of.
    stays = ()
    # The default of delivery.max_in_flight, if the settings say nothing.
    max_in_flight = 16
    # Several must have come twice at once, somewhere: else it was not tried.
    in_company = False

    def __init__(self, name):
        self.name = name

    def prepare(self, place):
        for letter in self.letters:
            place.submit(letter)

    def meanwhile(self, place):
        """Looked at again and again while an engine runs."""

    def after_kill(self, place):
        """What a person does before the next start."""

    def is_over(self, place):
        return True


class Plain(Batch):
    def __init__(self, name, *letters, mode="drain", settings=""):
        super().__init__(name)
        self.letters, self.mode, self.settings = letters, mode, settings


class Company(Plain):
    """Small messages over one connection, several under way at once; a recipient in the middle is refused."""

    max_in_flight = 4

    def __init__(self, name, domain, chunking):
        self.in_company = chunking  # after DATA the next content waits until this one is judged, and recorded
        letters = [smtp(f"{name}-{n}", f"ok{n}@{domain}") for n in range(10)]
        letters[4] = refused(f"{name}-4", f"no@{domain}")
        settings = f"[delivery.]max_connections = 1\n[delivery.]max_in_flight = {self.max_in_flight}\n"
        super().__init__(name, *letters, settings=settings)


class Fresh(Plain):
    """The tree is made by the engine."""

    from_the_start = True

    def prepare(self, place):
        super().prepare(place)
        for name in ("Queue", "Drop", "Badmail", "Status/nodes", "Status", "Logs"):
            (place.tree / name).rmdir()


class Resubmitted(Plain):
    """What an engine buried is moved back into Pickup, and its host has changed its mind."""

    def prepare(self, place):
        super().prepare(place)
        place.drain_undisturbed()
        place.sink.open = True
        bad = list((place.tree / "Badmail").glob("*.BAD"))
        if len(bad) != 1:
            raise RuntimeError("the batch cannot be prepared: nothing was buried")
        place.notes["stays"] = {bad[0].with_suffix(end).name for end in (".BDR", ".BDP")}
        place.age(bad[0])
        bad[0].rename(place.pickup / bad[0].name)


class Quota(Plain):
    """Drop is full; a reader makes room once mail waits for it."""

    FILLER = "filler.txt"

    def prepare(self, place):
        (place.tree / "Drop" / self.FILLER).write_bytes(b"x" * 20000)
        super().prepare(place)

    def meanwhile(self, place):
        if any(name.endswith(".ENV") for name in place.queue()):
            self.after_kill(place)

    def after_kill(self, place):
        (place.tree / "Drop" / self.FILLER).unlink(missing_ok=True)


class Held(Plain):
    """A domain is on hold; it is set free once mail waits for it."""

    def meanwhile(self, place):
        names = place.queue()
        if not place.notes.get("free") and any(n.endswith(".ENV") for n in names) and any(is_waiting(n) for n in names):
            self.after_kill(place)
            if place.engine:
                place.engine.send_signal(signal.SIGHUP)

    def after_kill(self, place):
        place.notes["free"] = True
        place.write_settings(self.settings.replace("hold = true", "hold = false"))


class Operated(Plain):
    """An operator holds a message that waits, and sets it and another one free; a third is touched."""

    ULID = "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6"

    def prepare(self, place):
        for letter in self.letters[1:]:
            place.submit(letter)
        place.write(place.tree / "Queue" / f"{self.ULID}.HOLD", self.letters[0].file)

    def meanwhile(self, place):
        names = place.queue()
        waiting = [name for name in names if is_waiting(name) and name[:26] + ".ENV" in names]
        if place.notes.get("freed"):
            return
        if place.notes.get("held"):
            self.after_kill(place)
        elif waiting:
            place.notes["held"] = waiting[0]
            place.move(place.tree / "Queue" / waiting[0], place.tree / "Queue" / (waiting[0][:-4] + ".HOLD"))

    def after_kill(self, place):
        for name in place.queue():
            if name.endswith(".HOLD"):
                place.move(place.tree / "Queue" / name, place.tree / "Queue" / (name[:-5] + ".EML"))
        place.notes["freed"] = True

    def is_over(self, place):
        return place.notes.get("freed", False)


class Delayed(Plain):
    """The host takes the message only after its sender was told of the delay."""

    def meanwhile(self, place):
        if any(place.tree.joinpath("Drop").glob("[0-9A-Z]*.EML")):
            place.sink.open = True


class Stopped(Plain):
    """The service is told to stop while it sends."""

    def meanwhile(self, place):
        if "stop" not in place.notes and place.sink.accepted:
            place.notes["stop"] = True


class Takeover(Plain):
    """A node has died with messages in its hand: the engine that is killed is the one that takes them over."""

    ULIDS = [f"01JDE0Z7M4Y3Q2V1W0X9Y8Z7A{n}" for n in range(9)]

    def prepare(self, place):
        bury_a_node(place)
        queue = place.tree / "Queue"
        done = "delivered 2.0.0 2026-01-01T00:00:00.000Z remote at=mx[192.0.2.1]:25 250 ok"
        refused = "failed 5.1.1 2026-01-01T00:00:00.000Z remote at=mx[192.0.2.1]:25 550 5.1.1 no"
        records = {"taken-partly": {"done@there.test": ("delivered", done), "ok@there.test": ("open", "")},
                   "taken-finished": {"done@there.test": ("delivered", done)},
                   "taken-owed": {"no@there.test": ("failed", refused)}}
        for ulid, letter in zip(self.ULIDS, self.letters):
            path = queue / f"{ulid}@{DEAD}.EML"
            place.write(path, letter.file)
            if letter.key in records:
                place.write(queue / f"{ulid}.ENV", env(ulid, path, letter, records[letter.key]))
        for folder, name in (("Queue", f"{DEAD}.7.TMP"), ("Drop", f".{DEAD}.8.TMP"), ("Badmail", f"{DEAD}.9.TMP")):
            place.write(place.tree / folder / name, b"half of someth")


class Volume(Plain):
    """Pickup lies on another volume; a dead node's claims were cut short between their two steps."""

    from_the_start = True
    other_volume = True
    ULIDS = Takeover.ULIDS

    def prepare(self, place):
        bury_a_node(place)
        for letter in self.letters[2:]:
            place.submit(letter)
        first, second = self.letters[:2]
        place.write(place.pickup / f".{self.ULIDS[0]}@{DEAD}.EML", first.file)
        place.write(place.pickup / f".{self.ULIDS[1]}@{DEAD}.EML", second.file)
        place.write(place.tree / "Queue" / f"{self.ULIDS[1]}@{DEAD}.EML", second.file)


def is_waiting(name):
    return name.endswith(".EML") and "@" not in name


def bury_a_node(place):
    """The files of a process of this boot that is no more."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    pids = os.readlink("/proc/self/ns/pid")
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    facts = {"counter": 1, "host": "gone.here.test", "boot": boot, "pids": pids, "pid": limit + 7, "started": 1,
             "version": "0.1.0", "at": "then"}
    place.write(place.tree / "Status/nodes" / f"{DEAD}.json", json.dumps(facts).encode() + b"\n")
    place.write(place.tree / "Status/nodes" / f"{DEAD}.LCK", b"")


def env(ulid, path, letter, recipients):
    lines = ["mailroot-env 1", f"id {ulid}", "file old.eml", "arrived 2026-01-01T00:00:00.000Z", f"sender <{letter.sender}>",
             f"mtime {os.stat(path).st_mtime_ns}"]
    for address, (state, last) in recipients.items():
        owed = " report=failure" if state == "failed" else ""
        lines.append(f"rcpt {state} tries=0{owed} <{address}>")
        if last:
            lines.append(f"last {last}")
    return "".join(line + "\n" for line in [*lines, "end"]).encode()


def smtp(key, *to, **more):
    return Letter(key, dict.fromkeys(to, "smtp"), **more)


def drop(key, *to, **more):
    return Letter(key, dict.fromkeys(to, "drop"), **more)


def refused(key, *to, **more):
    return Letter(key, dict.fromkeys(to, "refused"), **more)


# Retries come soon, so that a batch ends soon.
SOON = '[delivery.]retry = ["40ms"]\n[drop.]retry = ["40ms"]\n'

BATCHES = [
    Fresh("fresh", drop("fresh", "a@here.test")),
    Plain("drop", drop("drop-one", "a@here.test"), drop("drop-two", "a@here.test", "b@here.test", body=BODY_WITH_PERIODS),
          drop("drop-bare", "c@here.test", header=b"")),
    Plain("smtp", smtp("smtp-one", "ok@there.test"), smtp("smtp-two", "ok@there.test", "so@there.test", body=BODY_WITH_PERIODS),
          smtp("smtp-bare", "ok@other.test", header=b"")),
    Plain("long", smtp("long-bdat", "ok@there.test", body=LONG), smtp("long-data", "ok@other.test", body=LONG[:2500 * 61]),
          drop("long-drop", "a@here.test", body=LONG)),
    Plain("malformed", Letter("broken", {"": "badmail"}, raw=b"From: a@here.test\r\nX-Key: broken\r\nthis is no field\r\n\r\nbody\r\n"),
          Letter("nobody", {"": "badmail"}, raw=b"From: a@here.test\r\nX-Key: nobody\r\nSubject: to nobody\r\n\r\nbody\r\n")),
    Plain("refused", refused("refused-name", "no@there.test"), refused("refused-content", "dotno@other.test")),
    Plain("returned", refused("returned", "no@there.test", sender="boss@third.test")),
    Plain("unreturnable", refused("unreturnable", "no@there.test", sender="refuser@third.test")),
    Plain("nullsender", Letter("nullsender", {"no@there.test": "badmail"}, sender="")),
    Plain("deferred", smtp("deferred-name", "later@there.test"), smtp("deferred-content", "dotlater@other.test"),
          mode="run", settings=SOON),
    Plain("expired", refused("expired", "never@there.test"), mode="run", settings=SOON + '[delivery.]expire = "150ms"\n'),
    Delayed("delayed", Letter("delayed", {"gate@there.test": "delayed"}), mode="run",
            settings=SOON + '[delivery.]delay_notice = "60ms"\n'),
    Plain("mixed", Letter("mixed", {"a@here.test": "drop", "b@here.test": "drop", "ok@there.test": "smtp", "so@there.test": "smtp",
                                    "no@there.test": "refused", "later@other.test": "smtp", "ok@third.test": "smtp"}),
          mode="run", settings=SOON),
    Plain("told", Letter("told", {"ok@there.test": "relayed", "a@here.test": "seen"}, notify="SUCCESS,FAILURE")),
    Resubmitted("resubmitted", smtp("resubmitted", "shut@there.test", sender="")),
    Quota("quota", drop("quota", "a@here.test", "b@here.test"), mode="run", settings=SOON + "[drop.]quota = 20100\n"),
    Held("held", smtp("held", "ok@held.test"), mode="run", settings=SOON + "hold = true\n"),
    Operated("operated", smtp("set-free", "ok@there.test"), smtp("set-aside", "later@there.test"), mode="run", settings=SOON),
    Takeover("takeover", drop("taken-local", "a@here.test"), smtp("taken-remote", "ok@other.test"),
             smtp("taken-partly", "ok@there.test", also=("done@there.test",)), Letter("taken-finished", {}, also=("done@there.test",)),
             refused("taken-owed", "no@there.test")),
    Volume("volume", drop("half-alone", "a@here.test"), smtp("half-copied", "ok@there.test"), drop("apart-local", "b@here.test"),
           smtp("apart-remote", "ok@other.test")),
    Stopped("stopped", smtp("stopped-one", "ok@there.test"), smtp("stopped-two", "ok@other.test"), drop("stopped-three", "a@here.test"),
            smtp("stopped-four", "so@there.test"), mode="run"),
    Plain("many", *(smtp(f"many-{n}", f"ok{n}@{('there', 'other', 'third')[n % 3]}.test") for n in range(9)),
          drop("many-a", "a@here.test"), drop("many-b", "b@here.test"), refused("many-c", "no@third.test")),
    Company("company", "there.test", chunking=True),
    Company("pipelined", "third.test", chunking=False),
]


def settings_of(batch, ports, pickup, text=None):
    """mailroot.toml. `[section.]key = value` lines of a batch go into that section."""
    sections = {
        "server": ['hostname = "node.here.test"'],
        "domains": ['default = "here.test"'],
        "folders": [f'pickup = "{pickup}"'] if batch.other_volume else [],
        "delivery": ['delay_notice = "0"', 'retry = ["40ms"]'],
        "drop": ['delay_notice = "0"'],
        "pickup": ['poll = "50ms"', 'quiet = "1ms"'],
        "durability": ['flush = "5ms"'],
    }
    hold = "hold = false"
    for line in (batch.settings if text is None else text).splitlines():
        if line.startswith("hold"):
            hold = line
            continue
        section, _, setting = line[1:].partition(".]")
        key = setting.split(" ")[0]
        sections[section] = [old for old in sections[section] if old.split(" ")[0] != key] + [setting]
    out = "".join(f"[{name}]\n" + "".join(line + "\n" for line in lines) for name, lines in sections.items() if lines)
    for name, port in (("there.test", ports[0]), ("other.test", ports[1]), ("third.test", ports[2]), ("held.test", ports[0])):
        out += f'[[remote]]\nname = "{name}"\nroute = "smart_host"\nsmart_host = "[127.0.0.1]:{port}"\n'
        out += hold + "\n" if name == "held.test" else ""
    return out


__all__ = ["APP", "BATCHES", "settings_of"]
