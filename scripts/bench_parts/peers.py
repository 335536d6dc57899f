"""The small programs from the distribution: dma, OpenSMTPD, E-MailRelay.

Their packages exclude each other and Postfix, so none is installed: each is unpacked into a root of its own in the work
folder and runs there (chroot in a mount namespace), with its own users, settings and queue. They listen on loopback
only, and what was started is ended.
"""

import os
import shutil
import smtplib
import subprocess
import threading
import time
from pathlib import Path

from . import senders
from .senders import Failed, Run, Sender, high_water, message, RECEIVER, SENDER

USERS = ("opensmtpd", 990), ("opensmtpq", 991)
NAMESPACE = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
ENTER = 'r=$1; shift; mount --bind /usr "$r/usr" && mount --rbind /dev "$r/dev" && mount -t proc proc "$r/proc" && exec chroot "$r" "$@"'


class Root:
    """A root directory with the machine's /usr and one unpacked package under /peer."""

    def __init__(self, bench, package):
        self.path = bench.folder(f"root-{package}")
        for folder in ("usr", "dev", "proc", "etc", "tmp", "run", "peer", "root", "empty", "var/mail", "var/run", "var/spool"):
            (self.path / folder).mkdir(parents=True)
        for name in ("bin", "lib", "lib64", "sbin"):
            if os.path.islink(f"/{name}"):
                (self.path / name).symlink_to(f"usr/{name}")
        users = "".join(f"{name}:x:{number}:{number}::/empty:/bin/false\n" for name, number in USERS)
        groups = "".join(f"{name}:x:{number}:\n" for name, number in USERS)
        self.write("etc/passwd", f"root:x:0:0::/root:/bin/sh\nmail:x:8:8::/var/mail:/bin/false\n{users}")
        self.write("etc/group", f"root:x:0:\nmail:x:8:\n{groups}")
        self.write("etc/hosts", "127.0.0.1 localhost bench.example\n")
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
        self.write("etc/mailname", "bench.example\n")
        self.write("etc/aliases", "")

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def command(self, *words):
        """What runs a program in there; the mounts go with its last process."""
        return [*NAMESPACE, ENTER, "peer", str(self.path), *words]

    def run(self, *words, **more):
        done = subprocess.run(self.command(*words), capture_output=True, **more)
        if done.returncode != 0:
            raise Failed(f"{words[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def processes(self):
        """All that live in there."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                # Some shut themselves up in a folder of it.
                if entry.name.isdigit() and Path(os.readlink(entry / "root")).is_relative_to(self.path):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def unpack(self, package):
        """None when the package is under /peer, else why it is not."""
        if os.geteuid() != 0:
            return "only root can unpack and run it in a root of its own"
        for tool in ("apt-get", "dpkg", "unshare"):
            if not shutil.which(tool):
                return f"there is no {tool}"
        command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
        done = subprocess.run(command, cwd=self.path / "tmp", capture_output=True, text=True)
        files = list((self.path / "tmp").glob("*.deb"))
        if done.returncode != 0 or not files:
            return f"the distribution has no package {package}, or it cannot be fetched"
        done = subprocess.run(["dpkg", "-x", files[0], self.path / "peer"], capture_output=True, text=True)
        return None if done.returncode == 0 else f"dpkg -x: {done.stderr.strip()}"


class Peer(Sender):
    """Unpacked when it is made; started by `_start` if it is a service."""
    package = ""

    def __init__(self, bench, sink):
        super().__init__(bench, sink)
        self.why_not = "left out by --no-peers" if bench.no_peers else None
        if self.why_not is None:
            self.root = Root(bench, self.package)
            self.why_not = self.root.unpack(self.package)
        if self.why_not is None:
            try:
                self._start()
            except (Failed, OSError, smtplib.SMTPException) as error:
                self.why_not = f"it does not start: {error}"

    def available(self):
        return self.why_not

    syncs_matter = False

    def _start(self):
        """Settings, and what must run before anything can be sent."""


class EMailRelay(Peer):
    name, package = "E-MailRelay", "emailrelay"

    def _start(self):
        raise Failed("this bench has not seen a distribution that packages it")


class Dma(Peer):
    """`dma -q` on a spool that it has filled itself; a process for each message, as many at once as there are."""
    name, package = "dma", "dma"

    def _start(self):
        self.root.write("etc/dma/dma.conf", f"SMARTHOST 127.0.0.1\nPORT {self.sink.port}\nSPOOLDIR /var/spool/dma\n")
        self.spool = self.root.path / "var/spool/dma"
        self.spool.mkdir()
        shutil.chown(self.spool, "root", 8)
        self.spool.chmod(0o2775)

    def run(self, size, count):
        self._fill(size, count)
        began = time.perf_counter()
        self.root.run("/peer/usr/sbin/dma", "-q")
        self.sink.expect(count)
        seconds = time.perf_counter() - began
        senders.until(lambda: not any(self.spool.glob("[QM]*")) and not self.root.processes(), "its spool is not empty")
        self.sink.settle(count)
        return Run(seconds, count, None, 0)

    def _fill(self, size, count):
        """Copies of what it makes of one message."""
        content = message(size, 0).split(b"\n", 2)[2]
        self.root.run("/peer/usr/sbin/dma", "-bq", "-f", SENDER, RECEIVER, input=content)
        made = next(self.spool.glob("Q*"))
        name = made.name[1:]
        parts = {kind: (self.spool / f"{kind}{name}").read_bytes() for kind in "QM"}
        for kind in "QM":
            (self.spool / f"{kind}{name}").unlink()
        for number in range(count):
            other = f"{0x100000 + number:x}.{name.partition('.')[2]}"
            for kind, content in parts.items():
                path = self.spool / f"{kind}{other}"
                path.write_bytes(content.replace(name.encode(), other.encode()))
                os.chown(path, 8, 8)
                path.chmod(0o660)
        os.sync()


class OpenSmtpd(Peer):
    """A running smtpd whose relaying is paused while its queue is filled over SMTP, and then resumed."""
    name, package = "OpenSMTPD", "opensmtpd"
    FILLERS = 8

    def _start(self):
        for folder, owner, mode in (("var/spool/smtpd", 0, 0o711), ("var/lib/opensmtpd/empty", 0, 0o755)):
            path = self.root.path / folder
            path.mkdir(parents=True)
            os.chown(path, owner, owner)
            path.chmod(mode)
        control = self.root.path / "peer/usr/sbin/smtpctl"
        os.chown(control, 0, dict(USERS)["opensmtpq"])
        control.chmod(0o2755)
        self.port = senders.free_port()
        self.root.write("etc/smtpd.conf", f"""\
listen on socket
listen on 127.0.0.1 port {self.port}
action "out" relay host "smtp://127.0.0.1:{self.sink.port}"
match from any for any action "out"
""")
        with open(self.root.path / "tmp/log", "w") as log:
            command = self.root.command("/peer/usr/sbin/smtpd", "-d")
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        senders.until(self._answers, "it does not listen", 15)

    def _answers(self):
        try:
            with smtplib.SMTP("127.0.0.1", self.port):
                return True
        except OSError:
            return False

    def run(self, size, count):
        self._control("pause", "mta")
        self._fill(size, count)
        pids = self.root.processes()
        before = sum(senders.cpu_of(pid) for pid in pids)
        began = time.perf_counter()
        self._control("resume", "mta")
        self.sink.expect(count)
        seconds = time.perf_counter() - began
        cpu = sum(senders.cpu_of(pid) for pid in pids) - before
        peak = sum(high_water(pid) for pid in pids)
        senders.until(lambda: not self._control("show", "queue").strip(), "its queue is not empty")
        self.sink.settle(count)
        return Run(seconds, count, cpu, peak)

    def _fill(self, size, count):
        content = message(size, 0).split(b"\n", 2)[2].replace(b"\n", b"\r\n")
        errors = []

        def fill(many):
            try:
                with smtplib.SMTP("127.0.0.1", self.port) as into:
                    for _ in range(many):
                        into.sendmail(SENDER, [RECEIVER], content)
            except (OSError, smtplib.SMTPException) as error:
                errors.append(error)

        shares = [count // self.FILLERS + (n < count % self.FILLERS) for n in range(self.FILLERS)]
        threads = [threading.Thread(target=fill, args=(share,)) for share in shares if share]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise Failed(f"its queue cannot be filled: {errors[0]}")

    def _control(self, *words):
        return self.root.run("/peer/usr/sbin/smtpctl", *words)

    def close(self):
        if self.why_not is None:
            senders.end(self.process)
