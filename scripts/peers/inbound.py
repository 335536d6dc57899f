"""The other direction: real clients send to mailroot's listener, and what lies in Pickup is compared.

`mailroot listen` runs on a tree of its own: one entry with STARTTLS and users, one with TLS from the first byte. Senders
are tools, libraries and a Postfix that relays (relaying.py). Nobody takes the files out of Pickup, so each client's
message can be looked at as it came.
"""

import email
import email.policy
import shutil
import smtplib
import ssl
import subprocess
import time

from . import relaying
from .machine import Packages, Trouble, free_port, run, wait, write

ADDRESS = "127.0.0.1"
LOCAL, ELSEWHERE = "bob@mailroot.test", "bob@elsewhere.test"
USER, PASSWORD = "app", "pass word"
BODY = "Hello\n.\n..two\nGrüße\n" + "x" * 2000 + "\n"

SETTINGS = """[server]
hostname = "mailroot.test"
[domains]
default = "mailroot.test"
[[listener]]
enabled = true
address = "{address}"
port = {port}
certificate = "{certificate}"
users_file = "users"
received_user = true
[[listener]]
enabled = true
address = "{address}"
port = {implicit}
tls = "implicit"
certificate = "{certificate}"
users_file = "users"
"""


class Listener:
    def __init__(self, program, folder, processes, certificates, port):
        self.program, self.root, self.ca = program, folder, certificates.ca
        self.pickup = folder / "Pickup"
        self.port, self.implicit = port, port + 1  # ports go in steps of ten
        run(program, "init", folder)
        write(folder / "mailroot.toml", SETTINGS.format(address=ADDRESS, port=port, implicit=self.implicit,
                                                        certificate=certificates.host("mailroot.test")))
        run(program, "user", "add", USER, folder, given=f"{PASSWORD}\n".encode())
        self.process = processes.start(folder.name, program, "listen", folder)
        log = processes.folder / f"{folder.name}.log"
        processes.ready(folder.name, self.process, 20, lambda: log.read_text().count("listening") == 2)

    def take(self):
        """The one message that has come since; (leading block, Received, message)."""
        files = wait("a file in Pickup", 20, lambda: sorted(self.pickup.glob("*.EML")))
        if len(files) != 1:
            raise Trouble(f"{len(files)} files lie in Pickup")
        raw = files[0].read_bytes()
        files[0].unlink()
        top, _, rest = raw.partition(b"Received: ")
        return top.decode(), email.message_from_bytes(b"Received: " + rest, policy=email.policy.default)


    def take_all(self):
        """The bytes of all that have come since."""
        files = sorted(self.pickup.glob("*.EML"))
        came = [file.read_bytes() for file in files]
        for file in files:
            file.unlink()
        return came


def text(sender, to, subject):
    return f"From: <{sender}>\nTo: <{to}>\nSubject: {subject}\nContent-Type: text/plain; charset=utf-8\n\n{BODY}"


def command(*words, given=""):
    done = subprocess.run([str(word) for word in words], input=given.encode(), capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def compared(listener, to, subject, with_):
    """What is wrong with the message that came."""
    top, message = listener.take()
    faults = []
    if f"x-receiver: <{to}>" not in top or top.count("x-receiver") != 1:
        faults.append(f"the leading block is {top!r}")
    if message["Subject"] != subject:
        faults.append(f"the subject is {message['Subject']!r}")
    if f"with {with_} id " not in str(message["Received"]):
        faults.append(f"no {with_} in {message['Received']!r}")
    came = message.get_payload(decode=True).decode("utf-8", "replace").replace("\r\n", "\n")
    if came.rstrip("\n") != BODY.rstrip("\n"):
        faults.append(f"the text is {came[:80]!r}")
    return faults


def by_curl(listener):
    """TLS by STARTTLS and from the first byte, with a login."""
    for scheme, port in (("smtp", listener.port), ("smtps", listener.implicit)):
        code, said = command("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", listener.ca, "--user",
                             f"{USER}:{PASSWORD}", "--mail-from", "app@mailroot.test", "--mail-rcpt", ELSEWHERE,
                             "--resolve", f"mailroot.test:{port}:{ADDRESS}", f"{scheme}://mailroot.test:{port}/client.test",
                             "--upload-file", "-", given=text("app@mailroot.test", ELSEWHERE, scheme).replace("\n", "\r\n"))
        if code:
            yield f"{scheme}: curl ended with {code}: {said}"
        else:
            yield from compared(listener, ELSEWHERE, scheme, "ESMTPSA")


def by_smtplib(listener):
    """In clear (lines that end in LF), and by STARTTLS with a login; a stranger may not relay."""
    with smtplib.SMTP(ADDRESS, listener.port, timeout=20) as client:
        client.sendmail("app@client.test", [LOCAL], text("app@client.test", LOCAL, "clear").encode(), ["BODY=8BITMIME"])
        yield from compared(listener, LOCAL, "clear", "ESMTP")
        try:
            client.sendmail("app@client.test", [ELSEWHERE], b"Subject: relay\n\n")
            yield "a stranger may relay"
        except smtplib.SMTPRecipientsRefused as refused:
            if b"Unable to relay" not in refused.recipients[ELSEWHERE][1]:
                yield f"refused with {refused.recipients}"
    with smtplib.SMTP("localhost", listener.port, timeout=20) as client:
        trusting = ssl.create_default_context(cafile=listener.ca)
        trusting.check_hostname = False
        client.starttls(context=trusting)
        client.login(USER, PASSWORD)
        client.sendmail("app@mailroot.test", [ELSEWHERE], text("app@mailroot.test", ELSEWHERE, "login").encode())
        yield from compared(listener, ELSEWHERE, "login", "ESMTPSA")


def by_swaks(listener):
    """Pipelined, with STARTTLS and LOGIN."""
    code, said = command("swaks", "--server", f"{ADDRESS}:{listener.port}", "--to", ELSEWHERE, "--from", "app@mailroot.test",
                         "--pipeline", "--tls", "--auth", "LOGIN", "--auth-user", USER, "--auth-password", PASSWORD,
                         "--data", "-", given=text("app@mailroot.test", ELSEWHERE, "swaks"))
    if code:
        yield f"swaks ended with {code}: {said[-600:]}"
    else:
        yield from compared(listener, ELSEWHERE, "swaks", "ESMTPSA")


def by_msmtp(listener):
    """As cron jobs send."""
    code, said = command("msmtp", "--file=/dev/null", f"--host={ADDRESS}", f"--port={listener.port}", "--from=app@client.test",
                         "--timeout=20", LOCAL, given=text("app@client.test", LOCAL, "msmtp"))
    if code:
        yield f"msmtp ended with {code}: {said}"
    else:
        yield from compared(listener, LOCAL, "msmtp", "ESMTP")


NODEMAILER = """
const [port, implicit, user, pass, ca, to, body] = process.argv.slice(2);
const connect = (port, secure) => require("nodemailer").createTransport({
    host: "127.0.0.1", port, secure, requireTLS: !secure, auth: { user, pass }, pool: true, maxConnections: 3,
    tls: { ca: require("fs").readFileSync(ca), servername: "mailroot.test" } });
(async () => {
    for (const [port_, secure] of [[port, false], [implicit, true]]) {
        const transport = connect(port_, secure);
        const send = (subject) => transport.sendMail({ from: "app@mailroot.test", to, subject, text: body,
            attachments: [{ filename: "zeros.bin", content: Buffer.alloc(100000) }] });
        await Promise.all(Array.from({ length: 10 }, (_, n) => send(`${secure} ${n}`)));
        transport.close();
    }
})().catch((why) => { console.error(why); process.exit(1); });
"""


def by_nodemailer(listener):
    """A pool of connections, by STARTTLS and by TLS from the first byte, with a login: 20 messages with an attachment."""
    folder = listener.root.parent / "nodemailer"
    write(folder / "send.js", NODEMAILER)
    code, said = command("node", folder / "send.js", listener.port, listener.implicit, USER, PASSWORD, listener.ca, ELSEWHERE, BODY)
    if code:
        yield f"node ended with {code}: {said[-600:]}"
    subjects = []
    for raw in listener.take_all():
        top, _, rest = raw.partition(b"Received: ")
        message = email.message_from_bytes(b"Received: " + rest, policy=email.policy.default)
        subjects.append(str(message["Subject"]))
        parts = list(message.iter_parts())
        came = parts[0].get_content().replace("\r\n", "\n") if len(parts) == 2 else ""
        if came.rstrip("\n") != BODY.rstrip("\n"):
            yield f"{subjects[-1]}: the text is {came[:80]!r}"
        if len(parts) != 2 or parts[1].get_content() != bytes(100000):
            yield f"{subjects[-1]}: the attachment is not right"
        if b"x-receiver: <%s>" % ELSEWHERE.encode() not in top or "with ESMTPSA id " not in str(message["Received"]):
            yield f"{subjects[-1]}: {top!r}, {message['Received']!r}"
    if sorted(subjects) != sorted(f"{secure} {n}" for secure in ("false", "true") for n in range(10)):
        yield f"there came {sorted(subjects)}"


def why_no_nodemailer(folder):
    """Fetches it into the temporary folder; why that cannot be done."""
    if not shutil.which("npm") or not shutil.which("node"):
        return "npm and node are not installed"
    (folder / "nodemailer").mkdir()
    try:
        code, said = command("npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts",
                             "--prefix", folder / "nodemailer", "nodemailer@7")
    except subprocess.TimeoutExpired:
        return "npm does not end"
    return f"npm cannot install it: {' '.join(said.split())[-200:]}" if code else ""


CLIENTS = (("curl", by_curl), ("python", by_smtplib), ("swaks", by_swaks), ("msmtp", by_msmtp))


TOOLS = ("curl", "swaks", "msmtp")


def relays(folder, processes):
    def by_postfix(listener):
        return relaying.by_postfix(listener, folder, processes, USER, PASSWORD)

    by_postfix.__doc__ = relaying.by_postfix.__doc__
    return by_postfix


def played(program, folder, processes, certificates, packages: Packages):
    """Rows of the table."""
    packages.install("curl", "swaks", "msmtp", "libnet-ssleay-perl")
    listener = Listener(program, folder / "inbound", processes, certificates, free_port([ADDRESS]))
    rows = []
    clients = [*CLIENTS, ("Postfix", relays(folder, processes)), ("Postfix", relaying.by_smtp_source)]
    if reason := why_no_nodemailer(folder):
        print(f"nodemailer: NOT TRIED: {reason}")
    else:
        clients.append(("nodemailer", by_nodemailer))
    for name, sends in clients:
        if name in TOOLS and not shutil.which(name):
            rows.append((name, sends.__doc__, ["it is not there"]))
            continue
        began = time.monotonic()
        try:
            faults = list(sends(listener))
        except (Trouble, OSError, smtplib.SMTPException, subprocess.TimeoutExpired) as why:
            faults = [f"after {time.monotonic() - began:.0f} s: {why}"]
        rows.append((name, f"sends to the listener: {sends.__doc__.splitlines()[0]}", faults))
    return rows
