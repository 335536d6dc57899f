"""What the sink wrote down and what lies in the tree, held against what must have become of each letter."""

import os
import re
from collections import Counter, defaultdict

from .pulse import MARK

MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
MESSAGE_FILE = re.compile(r"^([0-9A-Z]{26}(?:-\d+)?)(@([A-Z0-9-]+))?\.(EML|HOLD)$")


class Record:
    """The sink's record, read as it grows."""

    def __init__(self, path):
        self.path, self.offset, self.rest = path, 0, b""
        self.got = []  # (time, node, sender, recipient, ident)
        self.copies = Counter()  # (recipient, ident)
        self.open = Counter()
        self.begun = {}  # connection → (node, time)
        self.ended = defaultdict(list)  # node → times of transactions that are over

    def look(self):
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return self
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._take(line.decode().split(" "))
        return self

    def _take(self, words):
        kind, time, node = words[0], float(words[1]), words[2]
        if kind == "got":
            self.got.append((time, node, words[3], words[4], words[5]))
            self.copies[(words[4], words[5])] += 1
        elif kind == "open":
            self.open[node] += 1
        elif kind == "close":
            self.open[node] -= 1
        elif kind == "mail":
            self.begun[words[3]] = (node, time)
        elif kind == "end":
            self.begun.pop(words[3], None)
            self.ended[node].append(time)

    def in_flight(self, node):
        """A connection carries one message at a time: from MAIL until its file is gone."""
        return self.open[node]

    def share(self, nodes):
        counts = Counter(node for _, node, *_ in self.got)
        total = sum(counts.values()) or 1
        return [counts[node] / total for node in nodes]

    def longest_pause(self, nodes, begin, end):
        """The longest time in which none of `nodes` delivered anything, of the pauses that reach into begin…end."""
        times = [time for time, node, *_ in self.got if node in nodes]
        before = [time for time in times if time <= begin][-1:] or [begin]
        inside = [time for time in times if begin < time < end]
        marks = [max(before[0], begin - 0.0), *inside, end]
        return max(later - former for former, later in zip(marks, marks[1:]))

    def rate(self, begin, end):
        return sum(1 for time, *_ in self.got if begin <= time < end) / max(end - begin, 0.001)


def sent_again(doubled):
    """How many messages these extra copies are: one that went twice to two recipients at once is one."""
    most = Counter()
    for what, times in Counter(doubled).items():
        letter = what.split()[0]
        most[letter] = max(most[letter], times)
    return sum(most.values())


class Verdict:
    """Everything that is to be said of the letters of one case."""

    def __init__(self, root, record, letters, feeder):
        self.lost, self.doubled, self.doubled_local, self.strange = [], [], [], []
        letters = letters[:feeder.put]
        drop = idents(root / "Drop", ".EML")
        bad = idents(root / "Badmail", ".BAD")
        reports = defaultdict(set)
        for (recipient, ident), count in record.copies.items():
            if recipient.endswith("@sender.test"):
                reports[recipient].add(ident)
        expected = set()
        for letter in letters:
            unsure = letter.number in feeder.unsure
            for recipient in letter.at_sink:
                expected.add((recipient, letter.ident))
                self._count(letter, f"{recipient} by SMTP", record.copies[(recipient, letter.ident)], self.doubled, unsure)
            if letter.at_drop:
                self._count(letter, "in Drop", drop[letter.ident], self.doubled_local, unsure)
            if letter.at_badmail:
                self._count(letter, "in Badmail", bad[letter.ident], self.doubled_local, unsure)
            elif bad[letter.ident]:
                self.strange.append(f"{letter.ident} ({letter.kind}) is in Badmail")
            if letter.report:
                got = reports[letter.sender]
                for ident in got:
                    expected.add((letter.sender, ident))
                copies = sum(record.copies[(letter.sender, ident)] for ident in got)
                self._count(letter, "report", copies, self.doubled, unsure)
                if len(got) > 1 and not unsure:
                    self.strange.append(f"{len(got)} different reports about {letter.ident}")
        for key in set(record.copies) - expected:
            self.strange.append(f"{key[0]} got {key[1]}")
        self.left = [name for folder in ("Pickup", "Queue") for name in names(root / folder)
                     if folder == "Pickup" or MESSAGE_FILE.match(name)]
        self.temporary = [name for folder in ("Queue", "Drop", "Badmail") for name in names(root / folder)
                          if name.endswith(".TMP") and "MAILROOT-PROBE" not in name]  # a killed proof's go when they are old
        self.remains = [name for name in names(root / "Queue") if name.endswith((".ENV", ".LTR", ".RTR"))]

    def _count(self, letter, where, count, doubled, unsure):
        if count == 0:
            self.lost.append(f"{letter.ident} ({letter.kind}): nothing {where}")
        elif count > 1 and not unsure:
            doubled.extend([f"{letter.ident} ({letter.kind}): {count} times {where}"] * (count - 1))

    def is_complete(self):
        return not self.lost and not self.left


def idents(folder, extension):
    """How many files there are of each Message-ID."""
    counts = Counter()
    for name in names(folder):
        if name.endswith(extension) and not name.startswith("."):
            found = MESSAGE_ID.search((folder / name).read_bytes()[:4096])
            counts[found.group(1).decode() if found else name] += 1
    return counts


def names(folder):
    """What lies there, but for the files of the pulse."""
    return [name for name in os.listdir(folder) if not name.startswith(MARK)]


def claims(root):
    """NODE → names of the message files that it has in hand."""
    held = defaultdict(list)
    for name in names(root / "Queue"):
        found = MESSAGE_FILE.match(name)
        if found and found.group(3):
            held[found.group(3)].append(name)
    return held
