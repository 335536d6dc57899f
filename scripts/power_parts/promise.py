"""What mailroot has promised at each moment of a trace, taken from its own calls (contract §3), all syncs believed.

* accepted: what a host has answered 250 to, as far as the answer was read.
* recorded: whose delivery or failure stands in an ENV that was put (synced, renamed, its folder synced).
* gone: messages whose removal was followed by syncs that prove it.
"""

import re
from collections import Counter
from dataclasses import dataclass

from . import letters
from .disk import Disk, File

KEPT = re.compile(rb"kept letter=(\S+) kind=(\S+) to=(\S+) about=(\S*) whole=(\d)\r\n")
MESSAGE = re.compile(r"\d/(?:.*/)?Queue/([0-9A-Z]{26})(-\d+)?(@[0-9A-Z-]+)?\.(EML|HOLD)$|\d/Pickup/\.([0-9A-Z]{26}).*\.EML$")


@dataclass(frozen=True)
class Promise:
    """At one moment. `accepted`: ((letter, kind, address), copies) pairs."""

    accepted: frozenset
    recorded: frozenset  # (letter, kind, address, "delivered" or "failed")
    reported: frozenset  # (letter, address)
    told: frozenset  # (letter, address): of the delay
    gone: frozenset  # (letter, kind)
    answered: frozenset  # letters that something was promised of, whatever their writer did


class Promises:
    """Follows a trace."""

    def __init__(self, disk: Disk):
        self.disk = disk
        self.accepted = Counter()
        self.recorded, self.reported, self.told, self.gone = set(), set(), set(), set()
        self.answered = set()
        self.heard = {}
        self.letter_of = {}  # ULID → (letter, kind)
        self.files_of = {}  # ULID → its files
        self.removed = {}  # ULID → when
        self.slowest = 0.0  # from a removal to its proof

    def follow(self, op):
        """After the disk has played `op`."""
        if op.call == "connect":
            self.heard[op.handle] = b""
        elif op.call == "recv" and op.result > 0:
            self.hear(op)
        elif op.call == "rename" and op.done:
            self.look(op.other, op)
        elif op.call == "unlink" and op.done:
            self.miss(op)
        elif op.call == "fsync" and op.done:
            self.believe(op)

    def hear(self, op):
        text = self.heard.get(op.handle, b"") + op.data
        for name, kind, to, about, _ in KEPT.findall(text):
            for address in (about if kind != b"mail" else to).decode().split(","):
                self.accepted[name.decode(), kind.decode(), address] += 1
        self.heard[op.handle] = text[text.rfind(b"\n") + 1 :]

    def look(self, path, op):
        found = MESSAGE.match(path)
        file = self.disk.at(path)
        if not found or not isinstance(file, File):
            return
        ulid = found.group(1) or found.group(5)
        self.letter_of.setdefault(ulid, letters.read(file.current))
        self.files_of.setdefault(ulid, set()).add(file)

    def miss(self, op):
        found = MESSAGE.match(op.path)
        if found and found.group(1) and found.group(1) in self.letter_of:
            ulid = found.group(1)
            self.removed[ulid] = op.time
            self.answered.add(self.letter_of[ulid][0])

    def believe(self, op):
        if op.path.endswith("/Queue"):
            for path, name in self.disk.names.items():
                if path.endswith(".ENV") and isinstance(name.base, File):
                    self.note(path, name.base)
        if "d" in op.flags:
            for ulid in [u for u in self.removed if self.is_proven_gone(u)]:
                self.gone.add(ulid)
                self.slowest = max(self.slowest, op.time - self.removed.pop(ulid))

    def note(self, path, file):
        ulid = path.rpartition("/")[2][:26]
        said = letters.record(file.durable)
        if said is None or ulid not in self.letter_of:
            return
        letter, kind = self.letter_of[ulid]
        self.answered.add(letter)
        for address, (state, reported, told) in said.items():
            if state != "open":
                self.recorded.add((letter, kind, address, state))
            if reported:
                self.reported.add((letter, address))
            if told:
                self.told.add((letter, address))

    def is_proven_gone(self, ulid):
        files = self.files_of[ulid]
        for name in self.disk.names.values():
            if name.base in files or any(v in files for c in name.changes for v in c.names.values()):
                return False
        return True

    def letters_gone(self):
        """A letter may have been several messages: buried and sent again, or back in Pickup."""
        there = {letter for ulid, letter in self.letter_of.items() if ulid not in self.gone}
        return {self.letter_of[ulid] for ulid in self.gone} - there

    def now(self):
        return Promise(
            frozenset(self.accepted.items()),
            frozenset(self.recorded),
            frozenset(self.reported),
            frozenset(self.told),
            frozenset(self.letters_gone()),
            frozenset(self.answered),
        )
