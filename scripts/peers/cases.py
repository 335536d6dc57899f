"""What is tried. Each case puts letters and says when it holds.

A case is `Case(peer, what, letters, verdict)`; `verdict(world)` returns a list of faults, empty when all is well. The
world is asked again until every case holds or time is up, so a verdict must be cheap and must not wait.
"""

import random
import re
from dataclasses import dataclass
from typing import Callable

from . import scene
from .letters import SENDER, letter, sample, unlike, unlike_decoded
from .servers import arrived


@dataclass
class Case:
    peer: str
    what: str
    letters: list
    verdict: Callable
    afterwards: bool = False  # shows only when the service has ended and its connections with it


class World:
    """What a verdict may look at."""

    def __init__(self, mailroot, postfix, exim):
        self.mailroot, self.postfix, self.exim = mailroot, postfix, exim
        self.look()

    def look(self):
        self.idents = self.mailroot.idents()
        self.reports = self.mailroot.reports()

    def ident(self, letter):
        return self.idents.get(f"{letter.name}.eml", "")

    def copies(self, letter, user):
        """The copies of a letter in a mailbox, known by the ID in our stamp."""
        ident = self.ident(letter).encode()
        boxes = arrived(self.postfix.mail, user) + arrived(self.exim.mail, user)
        return [copy for copy in boxes if ident and b" id " + ident in copy.partition(b"\n\n")[0]]

    def fates(self, user):
        """What reports in Drop say of a recipient."""
        return [one for _, all_of_it in self.reports for one in all_of_it if one[0].lower() == user.lower()]


# --- verdicts -------------------------------------------------------------------------------------------------------

def arrives(one, users, by=None, shows=(), compare=unlike):
    """Exactly one right copy in each mailbox; `by`: the host that took it; `shows`: patterns of its Received field."""

    def verdict(world):
        faults = []
        for user in users:
            copies = world.copies(one, user)
            if len(copies) != 1:
                faults.append(f"{user} has {len(copies)} copies")
            for copy in copies:
                faults += compare(one, copy, world.ident(one))
                theirs = copy.decode(errors="replace")
                wanted = list(shows) + ([rf"by {re.escape(by)}"] if by else [])
                faults += [f"{user}: no {each!r} in {theirs[:600]!r}" for each in wanted if not re.search(each, theirs)]
        return faults

    return verdict


def returned(user, status, says=""):
    """A failure report about the recipient lies in Drop, and no copy arrived."""

    def verdict(world):
        fates = world.fates(user)
        if len(fates) != 1:
            return [f"{len(fates)} reports about {user}"]
        _, action, code, diagnostic = fates[0]
        faults = [] if (action, code) == ("failed", status) else [f"reported as {action} {code}, not failed {status}"]
        return faults + ([] if says in diagnostic else [f"{says!r} is not in {diagnostic!r}"])

    return verdict


def waits(one, user, says):
    """Deferred: still in Queue, with the reason, and nothing arrived."""

    def verdict(world):
        env = world.mailroot.waiting(world.ident(one))
        faults = [] if re.search(says, env, re.I) else [f"no {says!r} in ENV {env!r}"]
        if re.search("rcpt (?!open)", env):
            faults.append(f"not only deferred: {env!r}")
        return faults + [f"{user} got a copy" for _ in world.copies(one, user)]

    return verdict


def both(*verdicts):
    return lambda world: [fault for verdict in verdicts for fault in verdict(world)]


def logged(log, pattern, what):
    """The peer's own log shows it."""

    def verdict(world):
        return [] if re.search(pattern, getattr(world, log).logged()) else [f"{what}: no {pattern!r} in the log of {log}"]

    return verdict


# --- the cases ------------------------------------------------------------------------------------------------------

def all_cases(fixtures):
    return [*routes(), *tls(), *smart_hosts(), *refusals(), *contents(), *samples(fixtures), *requests()]


def simple(peer, what, name, user, **how):
    one = letter(name, user)
    return Case(peer, what, [one], arrives(one, [user], **how))


def routes():
    deferred = [("down.test", "no host can be reached: waits", r"deferred 4\.4\.1"),
                (scene.BROKEN, "the DNS server fails (SERVFAIL): waits", r"deferred 4\.4\.3")]
    for domain, what, says in deferred:
        one = letter(f"waits-{domain}", f"bob@{domain}")
        yield Case("-" if domain == "down.test" else "BIND", what, [one], waits(one, f"bob@{domain}", says))
    yield simple("Postfix", "first MX down, second takes it", "second-mx", "bob@second.test", by=scene.POSTFIX)
    yield simple("Postfix", "no MX: the address of the domain", "implicit-mx", "bob@address.test", by=scene.POSTFIX)
    yield simple("Postfix", "the domain is an alias (CNAME)", "alias", f"bob@{scene.ALIAS[0]}", by=scene.POSTFIX)
    yield simple("Exim", "by MX, encrypted", "exim", "bob@exim.test", by=scene.EXIM, shows=[r"(?i)with (utf8)?esmtps"])
    many = [letter(f"many-{i:02}", "many@postfix.test", body=b"%d\n" % i) for i in range(40)]
    yield Case("Postfix", "40 messages, connections used again", many, both(
        *(arrives(one, ["many@postfix.test"]) for one in many),
        logged("postfix", rf"{scene.POSTFIX}/smtpd\[\d+\]: disconnect .* mail=\d\d", "connections used again")), afterwards=True)
    wide = [f"wide{i:02}@old.test" for i in range(12)]
    one = letter("wide", wide)
    yield Case("Postfix", "12 recipients, the host takes 5 at a time", [one], arrives(one, wide, by=scene.OLD))
    one = letter("mixed", ["both@postfix.test", "both@exim.test", f"both@{scene.LOCAL}"])
    yield Case("both", "one message to Postfix, Exim and Drop", [one], both(
        arrives(one, ["both@postfix.test"], by=scene.POSTFIX), arrives(one, ["both@exim.test"], by=scene.EXIM),
        lambda world: [] if any(b"<both@mailroot.test>" in file.read_bytes() for file in
                                (world.mailroot.root / "Drop").glob(f"{world.ident(one)}*.EML")) else ["not in Drop"]))


def tls():
    yield simple("Postfix", "opportunistic: encrypts", "opportunistic", "tls@postfix.test", shows=["using TLSv1", "with ESMTPS"])
    yield simple("Postfix", "opportunistic: no matter whose certificate", "careless", "bob@careless.test",
                 by=scene.EXPIRED, shows=["using TLSv1"])
    yield simple("Postfix", "required: encrypts, no matter whose certificate", "required", "bob@required.test",
                 by=scene.EXPIRED, shows=["using TLSv1"])
    one = letter("required-clear", "bob@clear.test")
    yield Case("Postfix", "required: the host offers no TLS: waits", [one], waits(one, "bob@clear.test", r"deferred 4\.7\.\d+ "))
    for domain, what, says in [("expired.test", "an expired certificate", "expired"),
                               ("wrong.test", "another's certificate", "is for somebody.else.test, not for")]:
        one = letter(f"verified-{domain}", f"bob@{domain}")
        yield Case("Postfix", f"verified: {what}: waits", [one], waits(one, f"bob@{domain}", rf"deferred 4\.7\.\d+ .*({says})"))


def smart_hosts():
    for domain, method in [("plain.test", "PLAIN"), ("login.test", "LOGIN"), ("cram.test", "CRAM-MD5"), ("best.test", "CRAM-MD5")]:
        how = "strongest offered" if domain == "best.test" else method
        one = letter(f"auth-{domain}", f"bob@{domain}")
        yield Case("Postfix", f"smart host, TLS verified, AUTH {how}", [one], both(
            arrives(one, [f"bob@{domain}"], by=scene.SMART, shows=["with ESMTPSA"]), authenticated(one, f"bob@{domain}", method)))
    one = letter("stranger", "bob@stranger.test")
    yield Case("Postfix", "smart host without AUTH refuses: report", [one], returned("bob@stranger.test", "5.7.1", "554"))


def authenticated(one, user, method):
    """The log line of exactly this message names the mechanism."""

    def verdict(world):
        for copy in world.copies(one, user):
            queue_id = re.search(r"with ESMTPSA id (\w+)", copy.decode(errors="replace"))
            if queue_id and re.search(rf"{queue_id[1]}: .*sasl_method={method}, sasl_username={re.escape(scene.USER)}",
                                      world.postfix.logged()):
                return []
        return [f"no sasl_method={method} in the log for this message"]

    return verdict


def refusals():
    for peer, domain, status in [("Postfix", "postfix.test", "5.1.1"), ("Exim", "exim.test", "5.1.0")]:
        one = letter(f"refused-{domain}", [f"half@{domain}", f"nobody@{domain}"])
        yield Case(peer, "one recipient refused: report; the other has it", [one], both(
            arrives(one, [f"half@{domain}"]), returned(f"nobody@{domain}", status, "550")))
    for peer, what, domain, status in [("BIND", "no such domain: report", "no-such-domain.test", "5.1.2"),
                                       ("BIND", "null MX: report", "nomail.test", "5.1.10")]:
        yield Case(peer, what, [letter(f"refused-{domain}", f"bob@{domain}")], returned(f"bob@{domain}", status))
    big = letter("too-big", "big@old.test", body=b"0123456789 " * 6 + b"\n" + b"x" * 70 + b"\n" + (b"y" * 70 + b"\n") * 3000)
    yield Case("Postfix", "larger than the host's SIZE: report", [big], returned("big@old.test", "5.3.4"))


def contents():
    dots = b".\n..\n...\n.hidden\n\n.\n middle\n..two\n." + b"x" * 70 + b"\n.end\n"
    eight = bytes(range(32, 127)) + b"\n" + bytes(range(0x80, 0x100)) + b"\nGr\xc3\xbc\xc3\x9fe\n.\xe4\n"
    mime = b"MIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n"
    rng = random.Random(3)
    large = b"".join(b"%s\n" % bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz .", k=75)) for _ in range(41_000))
    edges = b"".join(b"%s\n" % (b"." * k + b"x" * (997 - k)) for k in (0, 1, 2, 5)) + b"last line without an end"
    for peer, domain, way in [("Postfix", "postfix.test", "BDAT"), ("Exim", "exim.test", "BDAT"), ("Postfix", "old.test", "DATA")]:
        box = f"content@{domain}"
        # one bare period line in the text: the file says itself that nothing in it is stuffed
        literal = b"x-sender: <%s>\nx-receiver: <%s>\nx-dots: literal\n" % (SENDER.encode(), box.encode())
        all_of_it = [("dots", "lines of leading periods", dict(body=dots, leading=literal)),
                     ("crlf", "CRLF file", dict(body=dots, leading=literal, line_end=b"\r\n")),
                     ("8bit", "8-bit text as it is", dict(body=eight, header=mime))]
        if domain != "old.test":
            all_of_it += [("3mb", "3 MB", dict(body=large)), ("edges", "997 bytes a line; no line end at the end", dict(body=edges)),
                          ("empty", "no text", dict(body=b""))]
        for name, what, how in all_of_it:
            one = letter(f"{name}-{domain}", box, **how)
            if one.body and not one.body.endswith(b"\n"):
                one.body += b"\n"
            yield Case(peer, f"{what} ({way})", [one], arrives(one, [box]))
    yield Case("Postfix", "BDAT was used", [], logged("postfix", rf"{scene.POSTFIX}/smtpd\[\d+\]: disconnect .* bdat=\d", "BDAT"), afterwards=True)
    yield Case("Postfix", "DATA was used where BDAT is not offered", [],
               logged("postfix", rf"{scene.OLD}/smtpd\[\d+\]: disconnect .* data=\d", "DATA"), afterwards=True)
    yield Case("Exim", "BDAT was used", [], logged("exim", r" <= \S+ .* K ", "BDAT"))
    for domain in ("bare.test", "postfix.test"):
        what = "8-bit text and subject for a host that takes 7 bits" if domain == "bare.test" else "a line of 5000 bytes"
        text = eight if domain == "bare.test" else b"word " * 1000 + b"\nshort\n"
        subject = "Grüße aus Köln" if domain == "bare.test" else "long"
        one = letter(f"recoded-{domain}", f"recoded@{domain}", body=text, header=mime, subject=subject)
        one.extra["subject"] = subject
        yield Case("Postfix", f"{what}: encoded", [one], arrives(one, [f"recoded@{domain}"], compare=unlike_decoded))
    one = letter("utf8", "bob@postfix.test", body="Grüße\n".encode(), subject="Grüße", sender=f"dörte@{scene.LOCAL}",
                 header=b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n")
    yield Case("Postfix", "address and subject in UTF-8 (SMTPUTF8)", [one],
               arrives(one, ["bob@postfix.test"], shows=["with UTF8SMTPS"]))


SAMPLES = [  # file, verdict, recipients at the peers: the table in spool-fixtures/pickup/README.md
    ("writers/dotnetcore31-basic.eml", "none", ["bob@example.net", "carol@example.net", "dave@example.org"]),
    ("writers/dotnetcore31-att.eml", "stuffed", ["b@example.net"]),
    ("writers/dotnetcore31-wrap.eml", "stuffed", ["b@example.net"]),
    ("writers/dotnetcore31-empty.eml", "none", ["b@example.net"]),
    ("writers/dotnetcore31-long.eml", "none", ["bob@example.net", "eve@example.net"]),
    ("writers/mono68-1.eml", "literal", ["bob@example.net", "carol@example.net"]),
    ("writers/raw-writer-net5-style.eml", "literal", ["b@example.net"]),
    ("writers/mailkit-faq-style.eml", "stuffed", ["bob@example.net", "dave@example.org"]),
    ("writers/cdosys-style-{6F9619FF-8B86-D011-B42D-00CF4FC964FF}.eml", "literal", ["bob@example.net", "dave@example.org"]),
    ("iis-and-exchange/exchange-replay-style.eml", "none", ["bob@example.net"]),
    ("iis-and-exchange/iis-drop-style.eml", "none", ["bob@web1.example.net", "carol@web1.example.net"]),
]


def samples(fixtures):
    for file, verdict, users in SAMPLES:
        one = sample(fixtures / file, verdict)
        peers = "both" if any(user.endswith(".org") for user in users) else "Postfix"
        yield Case(peers, f"sample {file.split('/')[1][:40]}", [one], arrives(one, users))


def requests():
    """DSN parameters: the peer makes the report, from what we told it."""
    sender, user = "reports@postfix.test", "asked@postfix.test"
    one = letter("dsn-asked", user, sender=sender, leading=(
        f"x-sender: <{sender}> RET=HDRS ENVID=our-name-42\n"
        f"x-receiver: <{user}> NOTIFY=SUCCESS ORCPT=rfc822;first-written@postfix.test\n").encode())

    def verdict(world):
        for copy in arrived(world.postfix.mail, sender):
            if b"our-name-42" in copy:
                text = copy.decode(errors="replace")
                wanted = ["Original-Envelope-Id: our-name-42", "Original-Recipient: rfc822;first-written@postfix.test",
                          "Action: delivered", "text/rfc822-headers"]
                return [f"no {each!r} in Postfix's report" for each in wanted if each.lower() not in text.lower()]
        return ["Postfix sent no report with our ENVID"]

    yield Case("Postfix", "NOTIFY, ORCPT, RET, ENVID reach the host", [one], both(arrives(one, [user]), verdict))


def users():
    """The mailboxes at Postfix and at Exim that the cases need."""
    names = ["bob", "carol", "dave", "eve", "b", "both", "many", "half", "content", "big", "recoded", "tls", "reports", "asked",
             *(f"wide{i:02}" for i in range(12))]
    at_exim = {"exim.test", "example.org"}
    domains = [d for d, mx in scene.DOMAINS.items() if d not in at_exim and mx != [(0, ".")]]
    domains += [scene.ALIAS[0], *scene.BY_SMART_HOST]
    return [f"{n}@{d}" for d in domains for n in names], [f"{n}@{d}" for d in sorted(at_exim) for n in names]
