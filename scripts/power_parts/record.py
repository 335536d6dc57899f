"""Runs a batch under trace: what the engine, and operators beside it, did to the tree, in order."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import batches, syncs, trace
from .sink import Sink

OLD = 60  # seconds: applications finished their files so long ago
MISSED = "missed its own heartbeat"


class Trouble(Exception):
    """The scene could not be set."""


@dataclass
class Tools:
    mailroot: Path
    faults: Path
    room: Path  # a folder of ours on fast storage
    other_room: Path  # a folder of ours on another volume; None where there is none


@dataclass
class Recording:
    batch: object
    files: dict  # the tree before: {path: (bytes or None, mtime)}
    unsynced: set
    ops: list
    wall: float  # what to add to the monotonic clock for the time of the day
    strange: str  # what a run under trace, without any cut, did wrong


def settings(batch, port, roots, afterwards):
    """mailroot.toml. Afterwards Drop has room again."""
    sections = {
        "server": ['hostname = "node.local.example"'],
        "domains": ['default = "local.example"'],
        "delivery": [f'smart_host = "[127.0.0.1]:{port}"', 'tls = "off"', 'delay_notice = "0"', 'retry = ["100ms"]'],
        "drop": ['delay_notice = "0"', 'retry = ["100ms"]'],
        "pickup": ['poll = "50ms"', 'quiet = "0"', 'incomplete_grace = "300ms"'],
        "cluster": ['heartbeat = "150ms"', 'lease = "900ms"'],
    }
    if batch.two_volumes:
        sections["folders"] = [f'pickup = "{roots[1]}/Pickup"']
    for section, lines in batch.settings.items():
        for line in lines:
            if afterwards and line.startswith("quota"):
                continue
            key = line.split(" ")[0]
            old = [one for one in sections.get(section, []) if one.split(" ")[0] != key]
            sections[section] = [*old, line]
    return "".join(f"[{name}]\n" + "".join(line + "\n" for line in lines) for name, lines in sections.items())


def beginning(batch, now):
    """The tree that a batch begins with."""
    pickup = "1/Pickup" if batch.two_volumes else "0/Pickup"
    files = {pickup: (None, None)}
    files |= {f"0/{name}": (None, None) for name in batches.FOLDERS if name not in batch.fresh}
    for one in batch.letters:
        files[f"{pickup}/{one.name}.eml"] = (one.content, now - OLD)
    for path, content in batch.more.items():
        files[f"0/{path}"] = (content, now - OLD)
    return files


def build(files, roots):
    """Puts a tree there. The folder around it is there, or everything is being cleared up."""
    for root in roots:
        root.mkdir(exist_ok=True)
    for path in sorted(files):
        content, mtime = files[path]
        target = place(path, roots)
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if mtime:
            os.utime(target, (mtime, mtime))


def place(path, roots):
    number, _, rest = path.partition("/")
    return roots[int(number)] / rest


def roots_of(batch, tools, name):
    roots = [tools.room / name]
    if batch.two_volumes:
        roots.append(tools.other_room / name)
    return roots


def record(batch, tools, kill=None):
    """`kill`: what ends the process of a first step; a variable of scripts/faults and its value."""
    for _ in range(4):
        recording = record_once(batch, tools, kill)
        if recording:
            return recording
    raise Trouble(f"batch {batch.name}: this machine is too busy, mailroot {MISSED} again and again")


def record_once(batch, tools, kill):
    roots = roots_of(batch, tools, f"record-{os.getpid()}")
    sink = Sink(batch.bodies, batch.chunking)
    files = beginning(batch, time.time())
    pickup = "/Pickup/"
    stage = Stage(batch, tools, roots, sink)
    try:
        build(files, roots)
        (roots[0] / "mailroot.toml").write_text(settings(batch, sink.port, roots, False))
        steps = list(batch.steps)
        if kill:
            steps = [("drain", dict([kill])), *steps]
        for number, step in enumerate(steps):
            stage.play(number, step)
        if MISSED in stage.log:
            return None
        syncs.classify(stage.ops)
        unsynced = {p for p in files if batch.unsynced and pickup in p}
        return Recording(batch, files, unsynced, stage.ops, time.time() - time.monotonic(), stage.strange())
    finally:
        stage.end()
        sink.close()
        for root in roots:
            shutil.rmtree(root, ignore_errors=True)


class Stage:
    def __init__(self, batch, tools, roots, sink):
        self.batch, self.tools, self.roots, self.sink = batch, tools, roots, sink
        self.ops, self.log, self.process = [], "", None

    def play(self, number, step):
        verb, *rest = step
        trace_file = self.tools.room / f"trace-{os.getpid()}"
        trace_file.unlink(missing_ok=True)
        if verb in ("run", "drain"):
            more = rest[0] if verb == "drain" and rest else {}
            self.engine(verb, rest[0] if verb == "run" else "over", trace_file, more)
        else:
            found = sorted(self.roots[0].glob(rest[0]))
            for source in found:
                command = ["rm", source] if verb == "remove" else ["mv", source, self.target(source, rest[1])]
                self.spawn(command, trace_file, {}).wait()
        if trace_file.exists():
            self.ops += trace.read(trace_file, [str(r) for r in self.roots], number)

    def target(self, source, pattern):
        folder, _, name = pattern.rpartition("/")
        return self.roots[0] / folder / name.replace("*", source.name.rpartition(".")[0])

    def spawn(self, command, trace_file, more):
        preload = {"FAULTS_ROOT": ":".join(map(str, self.roots)), "FAULTS_TRACE": str(trace_file),
                   "LD_PRELOAD": str(self.tools.faults), **more}  # fmt: skip
        self.process = subprocess.Popen(command, env={**os.environ, **preload}, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
        return self.process

    def engine(self, verb, until, trace_file, more):
        process = self.spawn([self.tools.mailroot, verb, self.roots[0]], trace_file, more)
        end = time.monotonic() + 30
        looks = 0  # a listing can miss a file that is being renamed: seen several times in a row
        while verb == "run" and looks < 4 and time.monotonic() < end and process.poll() is None:
            looks = looks + 1 if self.has_come(until) else 0
            time.sleep(0.01)
        if verb == "run":
            if until == "empty":
                time.sleep(0.4)  # the flush, while it runs
            self.sink.stalls = False
            process.send_signal(signal.SIGKILL if "killed" in until else signal.SIGTERM)
        try:
            _, error = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            _, error = process.communicate()
            end = error.decode("utf-8", "replace")[-2000:]
            raise Trouble(f"batch {self.batch.name}: mailroot {verb} does not end: {end}") from None
        self.log += error.decode("utf-8", "replace")
        if "FAULTS_FAIL" in more and process.returncode != -signal.SIGKILL:
            raise Trouble(f"batch {self.batch.name}: no call is {more['FAULTS_FAIL']}")

    def has_come(self, until):
        if until == "record":
            return any(self.roots[0].glob("Queue/*.ENV")) and any(p.stem.isalnum() for p in self.roots[0].glob("Queue/*.EML"))
        if until == "stalled, killed":
            # Both that stall have reached the host, and what ends otherwise has ended.
            return self.sink.stalled.is_set() and len(list(self.roots[0].glob("Drop/*.EML"))) == 2
        return not any(messages(self.roots))

    def strange(self):
        left = [str(path) for path in messages(self.roots)]
        panic = [line for line in self.log.splitlines() if "panicked" in line]
        return "; ".join(left + panic)

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def messages(roots):
    """Message files that wait or are in hand. What a proof of the storage left that was killed waits ten minutes."""
    for root in roots:
        for path in [*root.rglob("Queue/*.EML"), *root.rglob("Queue/*.HOLD"), *root.rglob("Pickup/*")]:
            if path.is_file() and syncs.PROBE not in str(path):
                yield path
