"""Nodes: `mailroot run` on a machine of its own, and what it did to the tree."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path

from .judge import names
from .machine import Trouble, end, wait

SETTINGS = """\
[server]
hostname = "mail.local.test"
[domains]
default = "local.test"
[delivery]
smart_host = "[{sink}]:{port}"
tls = "off"
retry = ["2s", "3s", "5s", "5s"]
[cluster]
heartbeat = "{heartbeat}"
lease = "{lease}"
"""


class Node:
    """One place in the cluster; at most one process at a time."""

    def __init__(self, machine, program, tree, log, env):
        self.machine, self.program, self.tree, self.log, self.env = machine, program, tree, log, env
        self.audit = Path(f"{log}.steps")
        self.process = None
        self.starts = self.kills = 0
        self.undead = []  # killed, and kept by the storage

    def start(self):
        # nsenter without a process namespace becomes the program: its process number is that of mailroot.
        self.starts += 1
        env = dict(self.env)
        if env.pop("AUDIT", None):
            self.audit = Path(f"{self.log}.steps{self.starts}")
            env.update(FAULTS_LOG=str(self.audit), FAULTS_WHO="1")
        self.process = self.machine.start(self.program, "run", self.tree, log=self.log, env=env)
        return self

    def name(self, root):
        """What it is called in the tree."""
        folder = root / "Status/nodes"
        try:
            for entry in names(folder):
                if entry.endswith(".json"):
                    facts = json.loads((folder / entry).read_text().split("\n")[0])
                    if facts["pid"] == self.process.pid:
                        return entry[:-5]
        except (OSError, ValueError, KeyError):
            pass
        return None

    def ready(self, root):
        try:
            return wait("a heartbeat", 30, lambda: self.name(root) or self.process.poll() is not None)
        except Trouble as trouble:
            raise Trouble(f"{self.machine.name}: {trouble}; see {self.log}") from trouble

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.kills += 1
        self.process.kill()
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.undead.append(self.process)  # in a system call that the storage does not answer

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def stop(self, patience=30):
        """A clean end; the exit code, None when it had to be killed."""
        if not self.is_up():
            return self.process.returncode if self.process else 0
        self.process.terminate()
        began = time.monotonic()
        while self.process.poll() is None and time.monotonic() - began < patience:
            time.sleep(0.05)
        if self.process.poll() is None:
            end(self.process)
            return None
        return self.process.returncode

    def end(self):
        if self.process:
            if self.process.poll() is None:
                self.go_on()
            end(self.process)

    def complaints(self):
        """Lines of its log that are warnings or worse."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if " WARN " in line[:40] or " ERROR " in line[:40] or "panicked" in line]


def foreign_steps(audit, offset, not_its_own):
    """Renames and removals that succeeded from `offset` of a node's audit on, of messages (`not_its_own`, ULIDs) that
    others had by then and that it has not claimed anew: the proof of the fence. It may go on under a new name.

    Also how many such steps were under way in a thread when it fell silent: each thread may end the one step that it
    was at, between the look and the rename (contract §3), and no more."""
    others = set(not_its_own)
    foreign, late, awake = [], 0, set()
    with open(audit, "rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    for line in lines:
        words = line.split(" ")
        if len(words) < 8 or words[2] not in ("rename", "unlink"):
            continue
        thread = words[7]
        is_first = thread not in awake
        awake.add(thread)
        if words[5].startswith("-"):
            continue
        first, second = os.path.basename(words[3]), os.path.basename(words[4])
        if "@" in second and ulid_of(first):
            others.discard(ulid_of(second))  # a claim: its own from here on
        elif (ulid_of(second if first.endswith(".TMP") else first) or "") in others:
            if is_first:
                late += 1
            else:
                foreign.append(" ".join([words[2], first, second]).strip(" -"))
    return foreign, late


def double_claims(audits):
    """Files of Pickup that more than one rename was told to have taken, and that nobody had given back: what the
    storage said then is not so. name → who claimed it under which name."""
    claimed, returned = defaultdict(list), set()
    for audit in audits:
        with contextlib.suppress(FileNotFoundError):
            for line in audit.read_text(errors="replace").splitlines():
                words = line.split(" ")
                if len(words) < 7 or words[2] != "rename" or words[5] != "0":
                    continue
                first, second = Path(words[3]), Path(words[4])
                if first.parent.name == "Pickup" and "@" in second.name:
                    claimed[first.name].append(f"{audit.name} as {second.name}")
                elif second.parent.name == "Pickup":
                    returned.add(second.name)
    return {name: who for name, who in claimed.items() if len(who) > 1 and name not in returned}


def ulid_of(name):
    """The ULID that a name begins with."""
    ulid = name[:26]
    return ulid if len(name) > 26 and name[26] in "-@." and ulid.isalnum() else None
