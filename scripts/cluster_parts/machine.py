"""The machine underneath: processes that end with this script, network and mount namespaces that look like machines.

A `Machine` is a process that only holds namespaces of its own (network, mounts, host name, and for servers also
processes) and a cable to the bridge of the `Network`. When the holder ends, so do the cable and the mounts.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None, use_errno=True)
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Trouble(Exception):
    """The scene could not be set: nothing is said about mailroot."""


def run(*command, check=True, timeout=120):
    """Runs a command to its end; its output, or Trouble with its output."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        if not check:
            return ""
        raise Trouble(f"`{' '.join(words)}`: {error}") from error
    text = done.stdout.decode(errors="replace")
    if check and done.returncode != 0:
        raise Trouble(f"`{' '.join(words)}` ended with {done.returncode}: {text[-2000:].strip()}")
    return text


def wait(what, seconds, holds, every=0.1):
    """Waits until `holds()` is true and returns what it returned; Trouble after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer:
            return answer
        if time.monotonic() > until:
            raise Trouble(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(every)


def adopt_orphans():
    """What our children leave behind becomes ours, so that it can be ended too."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _ends_with_us():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(*command, log=None, env=None):
    """Starts a process that does not outlive this script."""
    out = open(log, "ab") if log else subprocess.DEVNULL
    try:
        return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                env={**os.environ, **(env or {})}, preexec_fn=_ends_with_us, start_new_session=True)
    finally:
        if log:
            out.close()


def end(process, patience=0.0):
    """Ends a process that we started, politely when there is patience."""
    if process.poll() is None:
        if patience:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        if process.poll() is None:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)


def end_orphans():
    """What became ours because its parent has ended."""
    for _ in range(50):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return
        for child in children:
            with contextlib.suppress(OSError):
                os.kill(int(child), signal.SIGKILL)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.1)


def why_not():
    """None, or why namespaces cannot be made here."""
    if os.geteuid() != 0:
        return "needs root, for namespaces and mounts"
    missing = [tool for tool in ("ip", "unshare", "nsenter", "mount", "mkfs.ext4", "fsfreeze", "cc")
               if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
    if missing:
        return f"not found: {', '.join(missing)} (packages iproute2, util-linux, e2fsprogs, gcc)"
    tried = subprocess.run(["unshare", "-m", "-n", "-u", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


class Network:
    """A bridge in our own namespace, on which all machines hang."""

    def __init__(self):
        number = os.getpid()
        self.net = f"10.{200 + number % 50}.{number // 50 % 250}"
        self.mark = f"{number % 0xFFFFF:x}"
        self.bridge = f"mrb{self.mark}"
        self.address = f"{self.net}.1"
        self.machines = []

    def __enter__(self):
        try:
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "addr", "add", f"{self.address}/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")
        except Trouble:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.end()
        run("ip", "link", "del", self.bridge, check=False)

    def machine(self, name, own_pids=False):
        machine = Machine(self, name, 10 + len(self.machines), own_pids)
        self.machines.append(machine)
        machine.begin()
        return machine


class Machine:
    """Looks like a machine of its own: network, mounts, host name, identity of its boot."""

    def __init__(self, network, name, number, own_pids):
        self.network, self.name, self.own_pids = network, name, own_pids
        self.address = f"{network.net}.{number}"
        self.cable = f"mrv{network.mark}{number}"
        self.holder = self.pid = self.boot_file = None

    def begin(self):
        spaces = ["-m", "-n", "-u", "--propagation", "private"]
        if self.own_pids:
            spaces += ["-p", "--mount-proc", "-f", "--kill-child"]
        self.holder = start("unshare", *spaces, "sleep", "infinity")
        self.pid = wait(f"namespaces of {self.name}", 10, self._inner)
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.pid)
        run("ip", "link", "set", self.cable, "master", self.network.bridge, "up")
        self.run("hostname", self.name)
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "link", "set", "lo", "up")

    def _inner(self):
        pid = self.holder.pid
        if self.own_pids:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                return None
            pid = int(children[0])
        with contextlib.suppress(OSError):
            apart = os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
            if apart and Path(f"/proc/{pid}/comm").read_text().strip() == "sleep":
                return pid
        return None

    def inside(self, *command):
        """The command, to be run on this machine."""
        spaces = ["-m", "-n", "-u"] + (["-p"] if self.own_pids else [])
        return ["nsenter", "-t", str(self.pid), *spaces, "--", *(str(word) for word in command)]

    def run(self, *command, check=True, timeout=120):
        return run(*self.inside(*command), check=check, timeout=timeout)

    def start(self, *command, log=None, env=None):
        return start(*self.inside(*command), log=log, env=env)

    def path(self, path):
        """What this machine sees at `path`, for us."""
        return Path(f"/proc/{self.pid}/root{path}")

    def boot(self, folder, own):
        """Its boot is another than that of the rest, or the true one of this machine."""
        identity = str(uuid.uuid4()) if own else Path(BOOT_ID).read_text().strip()
        if self.boot_file is None:
            self.boot_file = folder / f"boot-{self.name}"
            self.boot_file.write_text(identity + "\n")
            self.run("mount", "--bind", self.boot_file, BOOT_ID)
        self.boot_file.write_text(identity + "\n")
        if self.run("cat", BOOT_ID).strip() != identity:
            raise Trouble("the identity of the boot cannot be set")

    def cut(self):
        run("ip", "link", "set", self.cable, "down")

    def heal(self):
        run("ip", "link", "set", self.cable, "up")

    def end(self):
        run("ip", "link", "del", self.cable, check=False)
        if self.holder:
            end(self.holder)
