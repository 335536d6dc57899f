"""The other direction: real clients send to mailroot's listener, and what lies in Pickup is compared.

`mailroot listen` runs on a tree of its own: one entry with STARTTLS and users, one with TLS from the first byte. Nobody
takes the files out of Pickup, so each client's message can be looked at as it came.
"""

import email
import email.policy
import shutil
import smtplib
import ssl
import subprocess
import time

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
        files = wait("a file in Pickup", 20, lambda: sorted((self.root / "Pickup").glob("*.EML")))
        if len(files) != 1:
            raise Trouble(f"{len(files)} files lie in Pickup")
        raw = files[0].read_bytes()
        files[0].unlink()
        top, _, rest = raw.partition(b"Received: ")
        return top.decode(), email.message_from_bytes(b"Received: " + rest, policy=email.policy.default)


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


CLIENTS = (("curl", by_curl), ("python", by_smtplib), ("swaks", by_swaks), ("msmtp", by_msmtp))


def played(program, folder, processes, certificates, packages: Packages):
    """Rows of the table."""
    packages.install("curl", "swaks", "msmtp", "libnet-ssleay-perl")
    listener = Listener(program, folder / "inbound", processes, certificates, free_port([ADDRESS]))
    rows = []
    for name, sends in CLIENTS:
        if name != "python" and not shutil.which(name):
            rows.append((name, sends.__doc__, ["it is not there"]))
            continue
        began = time.monotonic()
        try:
            faults = list(sends(listener))
        except (Trouble, OSError, smtplib.SMTPException, subprocess.TimeoutExpired) as why:
            faults = [f"after {time.monotonic() - began:.0f} s: {why}"]
        rows.append((name, f"sends to the listener: {sends.__doc__.splitlines()[0]}", faults))
    return rows
