"""A distribution Postfix of our own: own configuration, own queue beside the mailroot, no port, nothing but relay.

The machine's /etc/postfix is neither read nor changed. maildrop is filled with copies of one file that sendmail(1) and
postdrop(1) made, in a folder beside it; the folders are then swapped, so that what is timed begins with a full maildrop
and a Postfix that is up and warm, as it would be in the field.
"""

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from . import syncs
from .senders import Failed, Run, Sender, message, high_water, SENDER, RECEIVER

DEFERRED = "deferred@later.example"
DAEMONS = "/usr/lib/postfix/sbin"

# pickup, cleanup and qmgr are one process each by design; what may run in parallel may do so as much as it likes.
MASTER = """\
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


class Postfix(Sender):
    name = "Postfix"

    def __init__(self, bench, sink):
        super().__init__(bench, sink)
        self.home = bench.place.path / "postfix"
        self.config, self.queue = self.home / "etc", self.home / "queue"
        self.why_not = "left out by --no-peers" if bench.no_peers else _install()
        self.version = ""
        if self.why_not is None:
            try:
                self._start()
            except (Failed, OSError, subprocess.CalledProcessError) as error:
                self.why_not = f"it does not start: {error}"

    def available(self):
        return self.why_not

    def _start(self):
        self.config.mkdir(parents=True)
        self.queue.mkdir()
        data = self.home / "data"
        data.mkdir()
        shutil.chown(data, "postfix", "postfix")
        (self.config / "master.cf").write_text(MASTER)
        (self.config / "main.cf").write_text(self._main(data))
        self._command("postfix", "check")
        self._command("postfix", "start")
        deadline = time.monotonic() + 30
        while not (self.queue / "public/pickup").exists() or not self._master():
            if time.monotonic() > deadline:
                raise Failed("it was not up after 30 s")
            time.sleep(0.1)
        self.version = self._command("postconf", "-h", "mail_version").strip()

    def _main(self, data):
        many = self.bench.connections
        settings = {
            "compatibility_level": "3.6", "daemon_directory": DAEMONS, "command_directory": "/usr/sbin",
            "queue_directory": self.queue, "data_directory": data, "mail_owner": "postfix",
            "setgid_group": "postdrop", "sendmail_path": "/usr/sbin/sendmail",
            "myhostname": "bench.example", "myorigin": "bench.example", "mydestination": "", "mynetworks": "127.0.0.0/8",
            "relayhost": f"[127.0.0.1]:{self.sink.port}", "inet_interfaces": "loopback-only", "inet_protocols": "ipv4",
            "smtp_dns_support_level": "disabled", "smtp_host_lookup": "native",
            "alias_maps": "", "alias_database": "", "local_recipient_maps": "", "canonical_maps": "",
            # Tuned: nothing is held back, connections are kept, the host takes as many as for the others.
            "default_process_limit": 100, "in_flow_delay": 0, "default_destination_concurrency_limit": many,
            "smtp_destination_concurrency_limit": many, "initial_destination_concurrency": many,
            "smtp_connection_cache_destinations": "127.0.0.1", "smtp_connection_cache_on_demand": "yes",
            "smtp_connection_reuse_count_limit": 0, "qmgr_message_active_limit": 100000,
            "qmgr_message_recipient_limit": 100000, "message_size_limit": 50_000_000, "smtp_tls_security_level": "none",
            "transport_maps": f"inline:{{{{{DEFERRED}=retry:4.0.0 later}}}}", "enable_long_queue_ids": "no", "notify_classes": "",
        }
        return "".join(f"{key} = {value}\n" for key, value in settings.items())

    def _command(self, *words, **more):
        """A Postfix command on our configuration."""
        environment = os.environ | {"MAIL_CONFIG": str(self.config)}
        done = subprocess.run(words, env=environment, capture_output=True, text=more.pop("text", True), **more)
        if done.returncode != 0:
            raise Failed(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def _master(self):
        """Its process id while it lives; 0 else."""
        try:
            pid = int((self.queue / "pid/master.pid").read_text())
            os.kill(pid, 0)
            return pid
        except (OSError, ValueError):
            return 0

    def count_syncs(self, size, count):
        counter = syncs.Beside(self._processes(), self.bench.place.path / "syncs")
        try:
            self.run(size, count)
        finally:
            calls = counter.end()
        return calls

    def run(self, size, count):
        staged = self.queue / "maildrop.staged"
        self._stage(staged, size, count)
        maildrop, away = self.queue / "maildrop", self.queue / "maildrop.away"
        before = self._cpu()
        began = time.perf_counter()
        maildrop.rename(away)
        staged.rename(maildrop)
        self._command("postkick", "public", "pickup", "W")
        self.sink.expect(count)
        seconds = time.perf_counter() - began
        cpu = self._cpu() - before
        peak = sum(high_water(pid) for pid in self._processes())
        shutil.rmtree(away)
        self._drained()
        self.sink.settle(count)
        return Run(seconds, count, cpu, peak)

    def _stage(self, staged, size, count):
        """pickup(8) takes a file whose name could be a queue id, owned by Postfix or the submitter, mode 0700."""
        content = message(size, 0).split(b"\n", 2)[2]
        owner = pwd.getpwnam("postfix")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        # Made by their own programs while nobody looks: postdrop's wake-up goes to a pickup that finds an empty folder.
        maildrop = self.queue / "maildrop"
        made = self._make_one(maildrop, content)
        for number in range(count):
            path = staged / f"{0xA00000 + number:X}"
            with open(path, "wb", buffering=0) as file:
                file.write(made)
                os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
                os.fchmod(file.fileno(), 0o700)
        shutil.chown(staged, "postfix", "postdrop")
        staged.chmod(0o1730)
        os.sync()

    def _make_one(self, maildrop, content):
        """The maildrop file of this message: taken out of the queue of a second, stopped configuration."""
        still = self.home / "still"
        if not still.exists():
            still.mkdir()
            (still / "etc").mkdir()
            (still / "queue").mkdir()
            (still / "etc/master.cf").write_text(MASTER)
            text = self._main(self.home / "data").replace(f"{self.queue}\n", f"{still / 'queue'}\n")
            (still / "etc/main.cf").write_text(text)
            subprocess.run(["postfix", "-c", still / "etc", "check"], check=True, capture_output=True)
        command = ["sendmail", "-C", still / "etc", "-G", "-i", "-f", SENDER, RECEIVER]
        done = subprocess.run(command, input=content, capture_output=True)
        files = list((still / "queue/maildrop").iterdir())
        if len(files) != 1:
            raise Failed(f"sendmail made no file in maildrop: {done.stderr.decode(errors='replace')}")
        made = files[0].read_bytes()
        files[0].unlink()
        return made

    def list_deferred(self, count):
        """Seconds that its own listing of so many deferred messages takes."""
        self._command("sendmail", "-f", SENDER, DEFERRED, input="Subject: deferred\n\nlater\n")
        deferred = self.queue / "deferred"
        deadline = time.monotonic() + 30
        while not (files := [file for file in deferred.glob("*/*") if file.is_file()]):
            if time.monotonic() > deadline:
                raise Failed("it did not defer the message in 30 s")
            time.sleep(0.1)
        model, owner = files[0], pwd.getpwnam("postfix")
        content, much_later = model.read_bytes(), time.time() + 86400
        for number in range(count):
            name = f"{number % 16:X}{0xB0000 + number // 16:X}"
            path = deferred / name[0]  # its first letter says where it looks for a queue file
            path.mkdir(mode=0o700, exist_ok=True)
            os.chown(path, owner.pw_uid, owner.pw_gid)
            with open(path / name, "wb", buffering=0) as file:
                file.write(content)
                os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
                os.fchmod(file.fileno(), 0o700)
            os.utime(path / name, (much_later, much_later))  # the queue manager leaves it alone until then
        began = time.perf_counter()
        listed = self._command("postqueue", "-p").count(SENDER)
        seconds = time.perf_counter() - began
        shutil.rmtree(deferred)
        deferred.mkdir(mode=0o700)
        os.chown(deferred, owner.pw_uid, owner.pw_gid)
        if listed < count:
            raise Failed(f"it listed {listed:,} of {count:,} messages")
        return seconds

    def _drained(self):
        """The queue manager removes after the host has answered; the next run waits for that."""
        deadline = time.monotonic() + 60
        folders = [self.queue / name for name in ("maildrop", "incoming", "active")]
        while any(any(folder.iterdir()) for folder in folders):
            if time.monotonic() > deadline:
                raise Failed("its queue is not empty after 60 s")
            time.sleep(0.05)

    def _processes(self):
        master = self._master()
        pids = [master]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if int(_stat(entry.name)[1]) == master:
                        pids.append(int(entry.name))
                except OSError:
                    pass
        return pids

    def _cpu(self):
        """Of master, of those it waited for, and of those that live."""
        tick = os.sysconf("SC_CLK_TCK")
        total = 0
        for pid in self._processes():
            try:
                fields = _stat(pid)
            except OSError:
                continue
            total += sum(int(field) for field in fields[11:15])  # utime stime cutime cstime
        return total / tick

    def close(self):
        if self._master():
            self._command("postfix", "stop")


def _stat(pid):
    """Fields of /proc/PID/stat from the state on: the parent is [1], utime [11]."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def _install():
    """None when Postfix is there, else why it is not."""
    if os.geteuid() != 0:
        return "only root can start one"
    if not shutil.which("postfix", path=os.environ.get("PATH", "") + ":/usr/sbin"):
        if not shutil.which("apt-get"):
            return "not installed, and there is no apt-get"
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "postfix"]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                return f"{' '.join(command[:2])} failed: {done.stderr.strip().splitlines()[-1:]}"
    return None
