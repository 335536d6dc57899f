"""What is put into Pickup, and what must arrive for it.

The expectation is made here from the file's bytes by a few plain rules, independently of mailroot's own code.
"""

import email
import email.policy
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from . import scene

SENDER = f"app@{scene.LOCAL}"


@dataclass
class Letter:
    """A file for Pickup: its bytes, and what must stand at the end of each copy that arrives (LF line ends)."""

    name: str
    raw: bytes
    header: bytes
    body: bytes
    sender: str = SENDER
    extra: dict = field(default_factory=dict)


def letter(name, to, body=b"Hello!\n", leading=b"", header=b"", sender=SENDER, line_end=b"\n", subject=None):
    """A letter as a program of ours writes it; `to` goes into To and Bcc by turns, so that Bcc is there to be removed."""
    to = [to] if isinstance(to, str) else to
    keep = (b"From: %s\nTo: %s\n%sSubject: %s\nDate: Tue, 24 Nov 2026 10:00:00 +0100\nMessage-ID: <%s@%s>\n%s" % (
        sender.encode(), to[0].encode(), header, (subject or name).encode(), name.encode(), scene.LOCAL.encode(),
        b"X-Folded: one\n\ttwo\n  three\n"))
    bcc = b"Bcc: " + b",\n\t".join(one.encode() for one in to[1:] or to) + b"\n"
    raw = leading + bcc + keep + b"\n" + body
    return Letter(name, raw.replace(b"\n", line_end), keep, body, sender)


def sample(path, verdict="none"):
    """A file of the fixtures; `verdict` on its leading periods is the one that their README gives."""
    raw = Path(path).read_bytes()
    text = raw.replace(b"\r\n", b"\n")
    header, _, body = text.partition(b"\n\n")
    fields = re.findall(rb"[^\n]+\n(?:[ \t][^\n]*\n)*", header + b"\n")
    while fields and re.match(rb"(?i)x-(sender|receiver|dots|endofinjectedxheaders)\s*:", fields[0]):
        fields.pop(0)
    fields = [one for one in fields if not re.match(rb"(?i)bcc\s*:", one)]
    if "end marker" in verdict:
        body = re.sub(rb"(?m)^\.\n*\Z", b"", body)
    if "stuffed" in verdict:
        body = re.sub(rb"(?m)^\.\.", b".", body)
    if not body.endswith(b"\n") and body:
        body += b"\n"
    name = "sample-" + re.sub(r"[^A-Za-z0-9.]+", "-", Path(path).name)
    return Letter(name, raw, b"".join(fields), body)


def put(pickup, letter):
    """Under a name that is ignored, then renamed: as the README says."""
    writing = pickup / f"{letter.name}.tmp"
    writing.write_bytes(letter.raw)
    os.rename(writing, pickup / f"{letter.name}.eml")


def unlike(letter, copy, ident):
    """What is wrong with an arrived copy; empty when all is right."""
    head, _, body = copy.partition(b"\n\n")
    head += b"\n"
    faults = []
    if not head.endswith(letter.header):
        faults.append(f"header differs: … {head[-len(letter.header):]!r} instead of {letter.header!r}")
    added = head[: len(head) - len(letter.header)]
    faults += unlike_added(added, ident)
    if body != letter.body:
        at = next((i for i, (a, b) in enumerate(zip(body, letter.body)) if a != b), min(len(body), len(letter.body)))
        faults.append(f"body differs at byte {at} ({len(body)} bytes, not {len(letter.body)}): "
                      f"{body[at:at + 40]!r} instead of {letter.body[at:at + 40]!r}")
    return faults


def unlike_added(added, ident):
    """The fields above the message: our stamp must be the lowest Received, and nothing of the envelope may show."""
    faults = []
    fields = re.findall(rb"[^\n]+\n(?:[ \t][^\n]*\n)*", added)
    names = [one.split(b":")[0].lower() for one in fields]
    stamps = [one for one in fields if re.match(rb"(?is)received: from mail pickup service by \S+ with mailroot", one)]
    if len(stamps) != 1 or ident.encode() not in stamps[0]:
        faults.append(f"our Received stamp is not there exactly once: {added!r}")
    if [one for one in fields if one.lower().startswith(b"received:")][-1:] != stamps:
        faults.append("our Received stamp is not the first one")
    faults += [f"{name.decode()} was sent" for name in names if name in (b"bcc", b"x-sender", b"x-receiver", b"x-dots")]
    return faults


def unlike_decoded(letter, copy, ident):
    """For a host that cannot take the bytes as they are: the decoded text and subject must be equal."""
    head, _, _ = copy.partition(b"\n\n")
    faults = unlike_added(head[: head.find(b"\nFrom: ") + 1], ident)
    got = email.message_from_bytes(copy, policy=email.policy.default)
    sent = email.message_from_bytes(letter.header + b"\n" + letter.body, policy=email.policy.default)
    if any(byte > 126 for byte in copy):
        faults.append("8-bit bytes arrived")
    if max(len(line) for line in copy.split(b"\n")) > 998:
        faults.append("a line of more than 998 bytes arrived")
    if got.get_payload(decode=True).rstrip(b"\n") != sent.get_payload(decode=True).rstrip(b"\n"):
        faults.append(f"decoded text differs: {got.get_payload(decode=True)[:200]!r}")
    if str(got["subject"]) != letter.extra.get("subject", str(sent["subject"])):
        faults.append(f"subject differs: {got['subject']!r}")
    return faults
