"""The letters of the batches: each bears its name in a header and can tell whether it is whole."""

import re

NAME = re.compile(rb"^X-Letter: (\S+)\r?$", re.M)
SUBJECT = re.compile(rb"^Subject: Delivery Status Notification \((\w+)\)\r?$", re.M)
ADDRESS = re.compile(rb"^x-receiver: *<([^>]+)>", re.M | re.I)


def body(name, lines=3):
    return b"".join(b"line %d of %s\n" % (i, name.encode()) for i in range(lines)) + b"end of %s\n" % name.encode()


def letter(name, sender, receivers, lines=3, notify=""):
    top = f"x-sender: <{sender}>\n" + "".join(f"x-receiver: <{r}>{notify}\n" for r in receivers)
    return f"{top}X-Letter: {name}\nSubject: {name}\nFrom: <app@local.example>\n\n".encode() + body(name, lines)


def read(data):
    """(name, kind) of the bytes of a message: kind is `mail`, or that of a DSN: Failure, Delay, Success, Relayed."""
    header = data.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    subject = SUBJECT.search(header)
    found = NAME.search(data if subject else header) or NAME.search(data)
    return (found.group(1).decode() if found else None, subject.group(1).decode() if subject else "mail")


def is_whole(data, bodies):
    """A DSN ends with its boundary; a letter has the body that was written."""
    name, kind = read(data)
    text = data.replace(b"\r\n", b"\n")
    if kind != "mail":
        boundary = re.search(rb'boundary="?([^"\n;]+)', text)
        return bool(boundary) and text.rstrip().endswith(b"--" + boundary.group(1) + b"--")
    return text.endswith(bodies.get(name, b"?")) and (b"\n\n" + bodies.get(name, b"?")) in text


def receivers(data):
    """The x-receiver lines on top."""
    return [a.decode() for a in ADDRESS.findall(data.replace(b"\r\n", b"\n").partition(b"\n\n")[0])]


def told(data):
    """Whom a DSN is about."""
    found = re.findall(rb"^Final-Recipient: *rfc822; *(\S+)", data, re.M | re.I)
    return [a.decode() for a in found]


def record(data):
    """What an ENV says: {address: (state, reported, delay told)}; None when it is torn."""
    if not data.startswith(b"mailroot-env 1\n") or not data.endswith(b"\nend\n"):
        return None
    found = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        if line.startswith("rcpt "):
            words, _, address = line[5:].partition(" <")
            words = words.split(" ")
            found[address.rstrip(">")] = (words[0], "reported" in words, "delay-told" in words)
    return found
