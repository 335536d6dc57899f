"""A Postfix that relays into mailroot's listener, and Postfix's smtp-source that floods it.

Postfix has an instance of its own: it takes letters from us on loopback and hands them on over TLS, which it requires and
whose certificate it verifies, with a login. What lies in Pickup then must be the letters, byte by byte.
"""

import os
import pwd
import re
import smtplib
import subprocess

from .machine import Trouble, free_port, listening, wait, write

ADDRESS = "127.0.0.1"
NAME = "mailroot.test"  # in the listener's certificate
SENDER, FAR = "app@relay.test", "bob@elsewhere.test"
LOAD = 1000

MASTER = """{address}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Relay:
    def __init__(self, folder, processes, listener, user, password):
        self.folder, self.port = folder, free_port([ADDRESS])
        for part in ("etc", "data", "queue"):
            (folder / part).mkdir(parents=True)
        owner = pwd.getpwnam("postfix")
        os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
        way = f"[{ADDRESS}]:{listener.port}"
        write(folder / "etc/passwords", f"{way} {user}:{password}\n", 0o600)
        write(folder / "etc/master.cf", MASTER.format(address=ADDRESS, port=self.port))
        write(folder / "etc/main.cf", f"""compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = relay.test
mydestination =
mynetworks = {ADDRESS}/32
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
relayhost = {way}
smtp_host_lookup = native
# all that it would change of a letter
local_header_rewrite_clients =
message_drop_headers =
smtp_line_length_limit = 0
smtpd_client_connection_count_limit = 0
line_length_limit = 2048
smtp_destination_recipient_limit = 100
smtp_tls_loglevel = 1
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = {NAME}
smtp_tls_CAfile = {listener.ca}
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:{folder}/etc/passwords
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = plain, login
""")
        command = ["postfix", "-c", folder / "etc"]
        process = processes.start(folder.name, *command, "start-fg", stop=[*command, "stop"])
        processes.ready(folder.name, process, 60, lambda: listening(ADDRESS, self.port))

    def send(self, letters):
        with smtplib.SMTP(ADDRESS, self.port, timeout=60) as client:
            for content, to in letters.values():
                client.sendmail(SENDER, to, content, ["BODY=8BITMIME"])

    def logged(self):
        log = self.folder / "mail.log"
        return log.read_text(errors="replace") if log.exists() else ""


def letter(name, body, to=(FAR,)):
    head = f"From: <{SENDER}>\r\nTo: <{to[0]}>\r\nSubject: {name}\r\nMessage-ID: <{name}@relay.test>\r\nX-Letter: {name}\r\n\r\n"
    return head.encode() + body, list(to)


def letters():
    """Name → (content, recipients)."""
    bodies = {
        "periods": b".\r\n..\r\n...\r\n.x\r\n. \r\n\r\n.\r\n",
        "eight-bit": "Grüße, 日本語\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
        "long": b"x" * 998 + b"\r\n." + b"y" * 5000 + b"\r\n" + b"z" * 100_000 + b"\r\n",
        "empty": b"",
        "blank": b"\r\n\r\n\r\n",
        "large": b"".join(b".%d %s\r\n" % (n, b"w" * (n % 200)) for n in range(20_000)),
        "controls": b"a\tb\x0b\x0c\x1b[0m\x7f\r\n",
    }
    some = {name: letter(name, body) for name, body in bodies.items()}
    some["hundred"] = letter("hundred", b"to many\r\n", [f"user{n}@elsewhere.test" for n in range(100)])
    return some | {f"many-{n}": letter(f"many-{n}", b".%d\r\n" % n * n) for n in range(60)}


def by_postfix(listener, folder, processes, user, password):
    """Relays with TLS that it verifies and a login: 68 letters, byte by byte."""
    relay, sent = Relay(folder / "relay", processes, listener, user, password), letters()
    relay.send(sent)
    try:
        wait("all letters", 60, lambda: len(list(listener.pickup.glob("*.EML"))) >= len(sent))
    except Trouble as why:
        yield f"{why}; it says {relay.logged()[-1500:]}"
    came = {}
    for raw in listener.take_all():
        found = re.search(rb"\r\nX-Letter: (\S+)\r\n", raw)
        name = found.group(1).decode() if found else "?"
        yield from unlike(name, raw, *sent.get(name, (b"", []))) if name not in came else [f"{name} came twice"]
        came[name] = raw
    yield from (f"{name} did not come" for name in sent.keys() - came.keys())
    log = relay.logged()
    if "Verified TLS connection established" not in log:
        yield "Postfix does not say that it verified the certificate"
    yield from (f"Postfix says: {line[:300]}" for line in log.splitlines() if re.search("warning|fatal|status=(?!sent)", line))


def unlike(name, raw, content, to):
    """What is wrong with a file: our leading block, two Received fields, and the letter as it was sent."""
    top, _, rest = raw.partition(b"Received: ")
    rest = b"Received: " + rest
    receivers = sorted(re.findall(rb"x-receiver: <(.*?)>", top))
    if not top.startswith(f"x-sender: <{SENDER}>".encode()) or receivers != sorted(one.encode() for one in to):
        yield f"{name}: the leading block is {top[:300]!r}"
    added = re.match(rb"(?:Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*){2}", rest)
    if not added or rest[added.end():] != content:
        at = added.end() if added else 0
        differs = next((n for n, (a, b) in enumerate(zip(rest[at:], content)) if a != b), min(len(rest) - at, len(content)))
        yield f"{name}: differs at byte {differs} of {len(content)}: {rest[at + differs:][:60]!r}, not {content[differs:][:60]!r}"
    elif b"with ESMTPSA id " not in added.group(0).partition(b"Received: ")[2].partition(b"Received: ")[0]:
        yield f"{name}: no ESMTPSA in {added.group(0)[:300]!r}"


def by_smtp_source(listener):
    """Many at once: each of 1000 messages over 20 connections is taken, whole."""
    done = subprocess.run(["smtp-source", "-s", "20", "-m", str(LOAD), "-l", "5000", "-f", "load@client.test", "-t", f"load@{NAME}",
                           f"{ADDRESS}:{listener.port}"], capture_output=True, text=True, timeout=300)
    if done.returncode:
        yield f"smtp-source ended with {done.returncode}: {done.stderr[-500:]}"
    came = listener.take_all()
    if len(came) != LOAD:
        yield f"{len(came)} of {LOAD} messages lie in Pickup"
    contents = [re.sub(rb"\A(?s:.*?)Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", b"", raw) for raw in came]
    # they differ in their Message-ID only
    plain = {re.sub(rb"(?im)^(Message-Id|Date): [^\r\n]*\r\n", b"", content) for content in contents}
    if len(plain) > 1:
        yield f"{len(plain)} kinds of content came, of {sorted({len(one) for one in plain})[:10]} bytes"
    yield from ("a message is cut" for one in list(plain)[:1] if len(one) < 4000 or not one.endswith(b"\r\n"))
    if len({re.search(rb"(?i)Message-Id: ([^\r\n]*)", content).group(1) for content in contents}) != len(contents):
        yield "a message came twice"
