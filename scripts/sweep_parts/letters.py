"""What is put into Pickup, and how a copy of it is known again, wherever it arrives.

The expectation is made here from the letter itself by a few plain rules, independently of mailroot's own code.
"""

import re
from dataclasses import dataclass

HERE = "here.test"
APP = f"app@{HERE}"

# What stands on top of a message when it leaves; nothing else may.
STAMP = re.compile(rb"(Return-Path|Received|Date|Message-ID|From): [^\r\n]*\r\n([ \t][^\r\n]*\r\n)*")
ULID = re.compile(rb"mailroot id ([0-9A-Z]{26})[;\s]")
KINDS = {b"Failure": "failure", b"Delay": "delay", b"Success": "success", b"Relay": "relay"}


@dataclass(frozen=True)
class Item:
    """One thing that a person or a program gets: a letter, or a report about one recipient of it."""

    kind: str
    key: str
    about: str
    to: str
    place: str

    def __str__(self):
        about = f" about {self.about}" if self.about else ""
        return f"{self.kind} {self.key}{about} to {self.to or 'nobody'} by {self.place}"


@dataclass
class Letter:
    """`fates`: recipient → what becomes of it (see `items`). `also`: recipients who have it already. `raw`: a file that
    is no message."""

    key: str
    fates: dict
    sender: str = APP
    body: bytes = b"Hello!\r\n"
    header: bytes = b"Date: Tue, 24 Nov 2026 10:00:00 +0100\r\nMessage-ID: <%s@here.test>\r\n"
    notify: str = ""
    raw: bytes = b""
    also: tuple = ()

    @property
    def whole(self):
        """Header and body as they must arrive, below the stamps."""
        if self.raw:
            return self.raw
        key = self.key.encode()
        header = self.header % key if b"%s" in self.header else self.header
        return b"From: app@here.test\r\nTo: all@there.test\r\n%sX-Key: %s\r\nSubject: %s\r\n\r\n%s" % (header, key, key, self.body)

    @property
    def file(self):
        """As an application writes it."""
        if self.raw:
            return self.raw
        notify = f" NOTIFY={self.notify}" if self.notify else ""
        top = [f"x-sender: <{self.sender}>", *(f"x-receiver: <{to}>{notify}" for to in (*self.fates, *self.also)), "x-dots: literal"]
        return "".join(line + "\r\n" for line in top).encode() + self.whole

    def items(self):
        """What must be there at the end, each once."""
        for to, fate in self.fates.items():
            if fate in ("smtp", "drop", "badmail"):
                yield Item("mail", self.key, "", to, fate)
                continue
            arrives, report = {"refused": ("", "failure"), "relayed": ("smtp", "relay"), "seen": ("drop", "success"),
                               "delayed": ("smtp", "delay")}[fate]
            if arrives:
                yield Item("mail", self.key, "", to, arrives)
            yield Item(report, self.key, to, self.sender, place_of_reports(self.sender))


def place_of_reports(sender):
    if sender.endswith("@" + HERE):
        return "drop"
    return "badmail" if sender.startswith("refuser") else "smtp"


@dataclass
class Copy:
    """What arrived somewhere: the items that it is, and what is wrong with it."""

    items: list
    ulid: str
    damage: str


def read_copy(letters, content, recipients, place):
    """`content`: without a leading block. `recipients`: who got it."""
    ulid = ULID.search(content[:2000])
    ulid = ulid.group(1).decode() if ulid else ""
    key = re.search(rb"X-Key: (\S+)", content)
    letter = letters.get(key.group(1).decode()) if key else None
    if letter is None:
        return Copy([Item("mail", "?", "", to, place) for to in recipients], ulid, "of no letter that was sent")
    subject = re.search(rb"^Subject: Delivery Status Notification \((\w+)\)", content, re.M)
    stamps, rest = take_stamps(content)
    if subject and b"multipart/report" in content[:4000]:
        kind = KINDS[subject.group(1)]
        about = sorted({one.decode() for one in re.findall(rb"^Final-Recipient: rfc822; ?(\S+)\r$", content, re.M)})
        items = [Item(kind, letter.key, one, to, place) for one in about for to in recipients]
        return Copy(items, ulid, damage_of_report(letter, kind, content, about))
    items = [Item("mail", letter.key, "", to, place) for to in recipients or [""]]
    damage = ""
    if place == "badmail":
        if content != letter.whole:
            damage = f"{len(content)} bytes, not the {len(letter.whole)} of the letter"
    elif rest != letter.whole and content != stamps + letter.whole:
        # A letter's own fields may look like stamps: what counts is that it ends with the whole letter.
        top = content[: len(content) - len(letter.whole)]
        if not content.endswith(letter.whole) or take_stamps(top)[1]:
            damage = f"{len(content)} bytes do not end with the {len(letter.whole)} of the letter"
    return Copy(items, ulid, damage)


def take_stamps(content):
    at = 0
    while found := STAMP.match(content, at):
        at = found.end()
    return content[:at], content[at:]


def damage_of_report(letter, kind, content, about):
    boundary = re.search(rb'boundary="?([^"\r\n;]+)', content)
    if not boundary or not content.rstrip().endswith(b"--" + boundary.group(1) + b"--"):
        return "the report has no end"
    if not about:
        return "the report is about nobody"
    wanted = letter.whole if kind == "failure" else letter.whole.partition(b"\r\n\r\n")[0]
    return "" if wanted in content else "the report does not hold what it is about"


def split_leading(file):
    """(recipients, content) of a file with a leading block."""
    to = []
    at = 0
    while field := re.compile(rb"(?i)x-(sender|receiver|dots): ?([^\r\n]*)\r\n").match(file, at):
        at = field.end()
        if field.group(1).lower() == b"receiver":
            to.append(field.group(2).split(b">")[0].strip(b"<> ").decode())
    return to, file[at:]
