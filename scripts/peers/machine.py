"""The machine underneath: packages, processes, ports, waiting.

What must be installed to be used (Postfix and libraries) is installed; what need only be run (named, Exim,
saslpasswd2) is unpacked into the temporary folder, because Debian lets only one mail server be installed and
because an installed service would start by itself. Nothing that is already installed is removed or configured.
"""

import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

APT = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical"}


class Trouble(Exception):
    """The scene could not be set: nothing is said about mailroot."""


def run(*command, given=None, env=None, cwd=None):
    """Runs a command to its end; its output, or Trouble with its output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, **(env or {})}, cwd=cwd)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Trouble(f"`{' '.join(words)}` ended with {done.returncode}:\n{text[-3000:]}")
    return text


def wait(what, seconds, holds):
    """Waits until `holds()` is true and returns what it returned; Trouble after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer:
            return answer
        if time.monotonic() > until:
            raise Trouble(f"waited {seconds} s in vain for {what}")
        time.sleep(0.1)


def listening(address, port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


def free_port(addresses):
    """A port that is free on all addresses, outside the range from which the kernel takes ports for clients."""
    for port in range(20025, 30000, 10):
        held = []
        try:
            for address in addresses:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    held.append(socket.socket(type=kind))
                    held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    held[-1].bind((address, port))
            return port
        except OSError:
            continue
        finally:
            for each in held:
                each.close()
    raise Trouble("no port is free on all of " + ", ".join(addresses))


class Packages:
    """Programs from the distribution."""

    def __init__(self, folder):
        self.folder = folder
        self.updated = False

    def update(self):
        if not self.updated:
            run(*APT, "update", env=QUIET)
            self.updated = True

    def install(self, *names):
        """Installs packages; never at the price of another one."""
        missing = [name for name in names if not installed(name)]
        if missing:
            self.update()
            run(*APT, "install", "-y", "--no-remove", "--no-install-recommends", *missing, env=QUIET)

    def unpacked(self, program, *packages):
        """The path of a program: the installed one, or out of packages that are unpacked, not installed."""
        found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if found:
            return found
        self.update()
        folder = self.folder / "packages" / packages[0]
        folder.mkdir(parents=True)
        run(*APT, "download", *packages, cwd=folder, env=QUIET)
        libraries = set()
        for package in glob.glob(str(folder / "*.deb")):
            run("dpkg-deb", "-x", package, folder)
            for one in run("dpkg-deb", "-f", package, "Depends").split(","):
                name = re.split(r"[\s(|:]", one.strip())[0]
                if name.startswith("lib") or name.endswith("-libs"):
                    libraries.add(name)
        self.install(*sorted(libraries))
        return str(folder / "usr/sbin" / program)


def installed(package):
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True)
    return asked.stdout.strip().endswith(" installed")


class Processes:
    """What this run started, and nothing else, ends with it."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, name, *command, stop=None, env=None):
        """Starts a process in a group of its own; its output goes to NAME.log. `stop` ends it more politely."""
        log = self.folder / f"{name}.log"
        with open(log, "ab") as out:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env={**os.environ, **(env or {})}, start_new_session=True)
        self.started.append((name, process, stop))
        return process

    def ready(self, name, process, seconds, holds):
        """Waits for a started process to be of use; says what it said when it is not."""
        try:
            wait(name, seconds, lambda: holds() or process.poll() is not None)
            if process.poll() is None:
                return
        except Trouble:
            pass
        said = (self.folder / f"{name}.log").read_text(errors="replace")
        raise Trouble(f"{name} did not get ready:\n{said[-3000:]}")

    def end(self):
        for name, process, stop in reversed(self.started):
            if stop:
                subprocess.run([str(word) for word in stop], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            elif process.poll() is None:
                process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                print(f"{name} did not end by itself and is killed")
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its group, which we made: helpers that outlived it
            except ProcessLookupError:
                pass
            process.wait()
        self.started.clear()


def write(path, text, mode=0o644):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path
