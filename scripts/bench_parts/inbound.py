"""The row of the listener: how fast messages are taken by SMTP, each one on the disk before its 250.

Postfix's smtpd and ours take the same messages from the same client (smtp-source, of Postfix), over as many connections.
Neither delivers them: ours runs as `mailroot listen`, Postfix puts them on hold, which is a synced queue file like any
other.
"""

import os
import shutil
import subprocess
import time

from . import senders
from .bench import Contest, Result
from .postfix import MASTER
from .senders import Failed, Run, Sender, free_port

LOCAL = "app@bench.example"


class Taker(Sender):
    """A server that is started before and ended after each run."""
    syncs_matter = False

    def available(self):
        return self.bench.postfix.available()

    def open(self, home, port):
        """Starts it; returns the processes that work."""
        raise NotImplementedError

    def took(self, home):
        """The folder where the messages lie."""
        raise NotImplementedError

    def shut(self, home):
        """Ends it."""
        raise NotImplementedError

    def run(self, size, count, before=()):
        home, port = self.bench.folder(self.name), free_port()
        try:
            pid = self.open(home, port)
            senders.until(lambda: _answers(port), f"{self.name} does not answer")
            command = ["smtp-source", "-d", "-s", str(self.bench.connections), "-m", str(count), "-l", str(size),
                       "-f", "bench@sender.example", "-t", LOCAL, f"127.0.0.1:{port}"]
            spent, began = senders.cpu_of(pid) if pid else 0, time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, timeout=senders.PATIENCE)
            seconds = time.perf_counter() - began
            cpu = senders.cpu_of(pid) - spent if pid else None
            if done.returncode != 0:
                raise Failed(f"smtp-source: {done.stderr.strip()[-300:]}")
            there = sum(len(files) for _, _, files in os.walk(self.took(home)))
            if there != count:
                raise Failed(f"{there} of {count} messages are there")
            return Run(seconds, count, cpu, senders.high_water(pid) if pid else 0)
        finally:
            self.shut(home)
            shutil.rmtree(home, ignore_errors=True)


def _answers(port):
    import socket
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as client:
            return client.recv(4) == b"220 "
    except OSError:
        return False


class Ours(Taker):
    """`mailroot listen`."""
    name = "mailroot listen"

    def open(self, home, port):
        root = self.bench.mailroot_at(home / "mailroot", self.sink)
        settings = root / "mailroot.toml"
        settings.write_text(settings.read_text() + f'[listener]\nenabled = true\naddress = "127.0.0.1"\nport = {port}\n')
        self.log = open(home / "log", "w")
        self.process = subprocess.Popen([self.bench.mailroot, "listen", root], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        return self.process.pid

    def took(self, home):
        return home / "mailroot/Pickup"

    def shut(self, home):
        senders.end(self.process)
        self.log.close()


class Theirs(Taker):
    """Postfix's smtpd, with a configuration and a queue of its own."""
    name = "Postfix smtpd"

    def open(self, home, port):
        home.chmod(0o755)
        (home / "etc").mkdir()
        (home / "queue").mkdir()
        data = home / "data"
        data.mkdir()
        shutil.chown(data, "postfix", "postfix")
        smtpd = (f"127.0.0.1:{port} inet n - n - - smtpd\n -o smtpd_recipient_restrictions=static:hold,permit_mynetworks\n"
                 " -o smtpd_client_connection_count_limit=0 -o smtpd_client_connection_rate_limit=0\n")
        (home / "etc/master.cf").write_text(smtpd + MASTER)
        postfix = self.bench.postfix
        text = postfix._main(data).replace(f"{postfix.queue}\n", f"{home / 'queue'}\n")
        (home / "etc/main.cf").write_text(text)
        for what in ("check", "start"):
            done = subprocess.run(["postfix", "-c", home / "etc", what], capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(f"postfix {what}: {done.stderr}")
        return 0

    def took(self, home):
        return home / "queue/hold"

    def shut(self, home):
        subprocess.run(["postfix", "-c", home / "etc", "stop"], capture_output=True)


class Inbound:
    name, what, seconds, quick = "listener", "messages of 1 KB by SMTP, each synced before its 250", 90, True

    def measure(self, bench):
        count = 500 if bench.quick else 5_000
        result = Result(f"{self.name}: {count:,} {self.what}, {bench.connections} connections")
        contest = Contest(bench, self.name, result)
        ours = contest.enter(Ours(bench, bench.data), 1024, count)
        theirs = contest.enter(Theirs(bench, bench.data), 1024, count, "mailroot listen")
        contest.run(count_syncs=False)
        result.ratio("times Postfix's smtpd", ours, theirs, 3)
        return result
