"""After the cut: the engine is started on the tree that was left, until all is done; then what came of it."""

import json
import os
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import letters, record
from .sink import Sink

PATIENCE = 25  # drains
NODE = "NODE-0000"


@dataclass
class Outcome:
    copies: list = field(default_factory=list)  # by SMTP: (letter, kind, to, about, whole)
    drop: list = field(default_factory=list)  # (file, letter, kind, to, about, whole)
    badmail: list = field(default_factory=list)  # (file, letter, kind, to, whole and with its two companions)
    waiting: list = field(default_factory=list)
    temporary: list = field(default_factory=list)
    panicked: str = ""


SINK = None  # of this worker


def play(task):
    """(tools, batch, mark, tree) → (mark, Outcome). Runs in a worker process."""
    global SINK
    tools, batch, mark, tree = task
    if SINK is None:
        SINK = Sink({})
    roots = record.roots_of(batch, tools, f"after-{os.getpid()}")
    for _ in range(5):
        for root in roots:
            shutil.rmtree(root, ignore_errors=True)
        outcome = once(tools, batch, mark, tree, roots)
        if outcome:
            break
        time.sleep(0.5)  # a node that was not given time to beat may repeat a step: not what is looked at here
    for root in roots:
        shutil.rmtree(root, ignore_errors=True)
    return mark, outcome


def once(tools, batch, mark, tree, roots):
    SINK.bodies = batch.bodies
    SINK.reset(strict=False)
    record.build(tree, roots)
    heartbeats(roots[0], tree, random.Random(mark))
    return finish(tools, batch, roots)


def on_the_spot(tools, batch, roots):
    """On a tree that is there already: None when the machine was too busy."""
    global SINK
    if SINK is None:
        SINK = Sink({})
    SINK.bodies = batch.bodies
    SINK.reset(strict=False)
    return finish(tools, batch, roots)


def finish(tools, batch, roots):
    (roots[0] / "mailroot.toml").write_text(record.settings(batch, SINK.port, roots, True))
    outcome = Outcome()
    end = time.monotonic() + 90
    before, idle = names_of(roots), 0
    for turn in range(PATIENCE):
        if time.monotonic() > end:
            break
        began = time.monotonic()
        try:
            done = subprocess.run([tools.mailroot, "drain", roots[0]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, timeout=60)  # fmt: skip
        except subprocess.TimeoutExpired:
            outcome.waiting.append("a drain that did not end in 60 s")
            break
        log = done.stderr.decode("utf-8", "replace")
        if record.MISSED in log:
            return None
        outcome.panicked += "".join(line for line in log.splitlines() if "panicked" in line)
        free = [path for path in roots[0].glob("Queue/*.HOLD")]
        for path in free:
            path.rename(path.with_suffix(".EML"))
        is_done = done.returncode == 0 or (done.returncode == 65 and not any(record.messages(roots)))
        if is_done and not free:
            break
        if done.returncode not in (0, 65, 75):
            outcome.waiting.append(f"drain ended with {done.returncode}: {log[-300:]}")
            break
        # A drain waits for the parent of a report, ten seconds: who waits twice for nothing waits for ever.
        there = names_of(roots)
        idle = idle + 1 if there == before and time.monotonic() - began > 5 else 0
        before = there
        if idle >= 2:
            break
        if batch.unsynced and turn > 6 and time.monotonic() > end - 70:
            break  # what was torn before it was ours may lie in Pickup for ever
        time.sleep(0.1)
    look(outcome, roots, batch)
    outcome.copies = list(SINK.copies)
    return outcome


def names_of(roots):
    return {path.name for path in record.messages(roots)}


def heartbeats(root, tree, lot):
    """Of those who had claims: their heartbeat file was never synced. It may be missing, zeros, or whole; of another
    boot, as after a real cut, or of this one, whose processes are known to be gone."""
    owners = {p.rpartition("@")[2].removesuffix(".EML") for p in tree if "@" in p and p.endswith(".EML")}
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    nodes = root / "Status/nodes"
    for owner in owners:
        what = lot.choice(["missing", "zeros", "other boot", "this boot", "this boot", "this boot"])
        if what == "missing":
            continue
        if what == "other boot":
            boot = "00000000-0000-4000-8000-000000000000"
        facts = {"counter": 3, "host": "node.local.example", "boot": boot, "pids": os.readlink("/proc/self/ns/pid"),
                 "pid": 4194303, "started": 1, "version": "0.1.0", "at": "2026-01-01T00:00:00Z"}  # fmt: skip
        text = json.dumps(facts).encode() + b"\n"
        nodes.mkdir(parents=True, exist_ok=True)
        (nodes / f"{owner}.json").write_bytes(bytes(len(text)) if what == "zeros" else text)
        (nodes / f"{owner}.LCK").write_bytes(b"")


def look(outcome, roots, batch):
    for path in sorted(roots[0].rglob("Drop/*")):
        data = path.read_bytes()
        if path.name == "filler":
            continue
        if path.name.endswith(".TMP"):
            outcome.temporary.append(path.name)
            continue
        name, kind = letters.read(data)
        about = letters.told(data) if kind != "mail" else []
        outcome.drop.append((path.name, name, kind, letters.receivers(data), about, letters.is_whole(data, batch.bodies)))
    for path in sorted(roots[0].glob("Badmail/*.BAD")):
        data = path.read_bytes()
        name, kind = letters.read(data)
        companions = all(path.with_suffix(end).stat().st_size > 0 if path.with_suffix(end).exists() else False
                         for end in (".BDR", ".BDP"))  # fmt: skip
        whole = letters.is_whole(data, batch.bodies) and companions
        outcome.badmail.append((path.name, name, kind, letters.receivers(data), whole))
    for folder in ("Queue", "Badmail"):
        outcome.temporary += [p.name for p in roots[0].rglob(f"{folder}/*.TMP")]
    outcome.waiting += sorted(names_of(roots))
