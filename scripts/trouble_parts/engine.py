"""One running mailroot: started with or without the preloaded library, measured, read, stopped."""

import json
import os
import re
import signal
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
# Lines that tell what became of a message; everything else at these levels speaks of trouble.
FATES = ("to Badmail",)


class Engine:
    running = set()

    def __init__(self, program, tree, log, environment):
        self.log = log
        self.started_at = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as errors:
            command = [*program, "run", str(tree)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                            env={**os.environ, **environment, "TZ": "UTC"})
        Engine.running.add(self)

    def is_up(self, within=10):
        """Whether it says that it runs."""
        until = time.monotonic() + within
        while time.monotonic() < until and self.process.poll() is None:
            if b'"running"' in self.text():
                return True
            time.sleep(0.02)
        return False

    def text(self, since=None, until=None):
        with open(self.log, "rb") as file:
            file.seek(self.started_at if since is None else since)
            return file.read() if until is None else file.read(max(0, until - (since or 0)))

    def place(self):
        return self.log.stat().st_size

    def cpu(self):
        """Seconds of processor time so far."""
        try:
            with open(f"/proc/{self.process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
        except (OSError, IndexError):
            return 0.0

    def is_alive(self):
        return self.process.poll() is None

    def stop(self, patience):
        """SIGTERM; the seconds until it ended, and its exit code (None: it was killed)."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return time.monotonic() - began, code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        Engine.running.discard(self)


def lines(text):
    """The events of a log, as dictionaries."""
    events = []
    for line in text.decode(errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            events.append({"level": "?", "message": line})
    return events


def complaints(text):
    """Kinds of lines that speak of trouble, and how often each came."""
    kinds = {}
    for event in lines(text):
        message = str(event.get("message", ""))
        if event.get("level") in ("WARN", "ERROR", "?") and not message.startswith(FATES):
            kind = re.sub(r"[0-9A-Z]{26}\S*|/\S+|\d+", "…", message)
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def panics(text):
    return [line[:200] for line in text.decode(errors="replace").splitlines() if "panicked" in line or "internal error" in line]
