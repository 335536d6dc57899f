"""Letters, where each must end, and what is found there."""

import os
import re
from dataclasses import dataclass, field

LETTER = re.compile(rb"^X-Letter: (\S+)", re.M)
# Where a letter of a kind ends, each once. "queue": it waits, its host is down.
ENDS = {"drop": ["drop"], "smtp": ["smtp"], "both": ["drop", "smtp"], "later": ["smtp"], "refused": ["report"],
        "null": ["badmail"], "broken": ["badmail"], "waits": ["queue"], "mx": ["smtp"], "bad": ["smtp"]}


@dataclass
class Letter:
    name: str
    kind: str
    hidden: bool = field(default=False)  # written under a name that is ignored, not yet in its place
    put: bool = field(default=False)

    def text(self):
        to = {"drop": [f"{self.name}@local.test"], "smtp": [f"{self.name}@good.test"],
              "both": [f"{self.name}@local.test", f"{self.name}@good.test"], "later": [f"later-{self.name}@good.test"],
              "refused": [f"refuse-{self.name}@good.test"], "null": [f"refuse-{self.name}@good.test"],
              "broken": [f"{self.name}@local.test"], "waits": [f"{self.name}@down.test"],
              "mx": [f"{self.name}@a.mx.test"], "bad": [f"{self.name}@bad.test"]}[self.kind]
        lines = [f"x-sender: <{'' if self.kind == 'null' else 'app@local.test'}>", *[f"x-receiver: <{one}>" for one in to],
                 f"X-Letter: {self.name}", "From: app@local.test", f"Subject: {self.kind}"]
        if self.kind == "broken":
            lines.append("this line is no header")
        body = "".join(f"line {n} of {self.name}: what must arrive is all of it and nothing else\r\n" for n in range(20))
        return "\r\n".join(lines) + "\r\n\r\n" + body + f"the end of {self.name}.\r\n"

    def hide(self, pickup):
        with open(pickup / f".{self.name}", "w", newline="") as file:
            file.write(self.text())
        self.hidden = True

    def show(self, pickup):
        os.rename(pickup / f".{self.name}", pickup / f"{self.name}.eml")
        self.put = True


class Found:
    """What has been seen so far. What was once seen counts, also when its file has gone since."""

    def __init__(self, tree, hosts, read=None):
        self.tree, self.hosts = tree, hosts
        self.read = read  # where files of Drop are moved as soon as they are seen, as an application does
        self.seen = set()
        self.places = {}  # (place, letter) → names of files
        self.damaged = set()
        self.in_queue = None  # messages; None: it cannot be listed

    def look(self):
        for folder in ("Drop", "Badmail"):
            for path in self.files(self.tree / folder):
                if path.name.startswith(".") or path.suffix not in (".EML", ".BAD") or (folder, path.name) in self.seen:
                    continue
                try:
                    name = path.name
                    if self.read and folder == "Drop":
                        name = f"{len(self.seen)}-{name}"
                        path = path.rename(self.read / name)
                    self.note(folder, name, path.read_bytes())
                except OSError:
                    continue
        names = self.files(self.tree / "Queue", None)
        self.in_queue = None if names is None else sum(1 for path in names if path.suffix in (".EML", ".HOLD"))
        return self

    @staticmethod
    def files(folder, failed=()):
        try:
            return [folder / name for name in os.listdir(folder)]
        except OSError:
            return failed

    def note(self, folder, name, content):
        self.seen.add((folder, name))
        letter = LETTER.search(content)
        letter = letter[1].decode() if letter else f"?{name}"
        report = folder == "Drop" and b"multipart/report" in content
        place = "badmail" if folder == "Badmail" else "report" if report else "drop"
        self.places.setdefault((place, letter), set()).add(name)
        if not report and f"the end of {letter}.".encode() not in content:
            self.damaged.add(letter)

    def count(self, place, letter):
        if place == "smtp":
            return sum(1 for host in self.hosts for name, _, _ in host.copies if name == letter)
        return len(self.places.get((place, letter), ()))

    def missing(self, letters):
        """Letters that have not ended, each once for each place."""
        ends = [(place, letter.name) for letter in letters for place in ENDS[letter.kind] if place != "queue"]
        return [(place, name) for place, name in ends if not self.count(place, name)]

    def doubled(self, letters):
        """In Drop and Badmail."""
        return [(place, letter.name) for letter in letters for place in ("drop", "badmail", "report")
                if self.count(place, letter.name) > (place in ENDS[letter.kind])]

    def twice_sent(self, letters):
        return sum(max(0, self.count("smtp", letter.name) - ("smtp" in ENDS[letter.kind])) for letter in letters)

    def broken(self):
        return self.damaged | {name for host in self.hosts for name, whole, _ in host.copies if not whole}
