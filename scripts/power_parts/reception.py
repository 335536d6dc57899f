"""The listener and the power: what got 250 lies in Pickup after a cut at any moment, and what lies there is whole.

`mailroot listen` runs under trace while sessions send (sweep_parts/reception.py), and the trees that a cut may leave are
looked at; some are given to an engine. Promised is a message from the call on that sends its 250.
"""

import os
import random
import re
import shutil
import subprocess
import time

from sweep_parts import reception as senders

from . import batches, explore, syncs, trace
from .disk import Disk
from .record import Trouble, build

QUEUED = re.compile(rb"250 2\.6\.0 <([0-9A-Z]{26})@")
WAYS = senders.WAYS
KEY = re.compile(rb"^X-Key: (\S+)\r$", re.M)


class Recording:
    def __init__(self, way, files, ops, wall, messages):
        self.way, self.files, self.ops, self.wall = way, files, ops, wall
        self.messages = {message.key.encode(): message for message in messages}
        self.sent = len(messages) - 1  # one is given up


def record(way, tools):
    """One run under trace."""
    root = tools.room / f"reception-{way}"
    folders = ["0/Pickup", *(f"0/{name}" for name in batches.FOLDERS)]
    files = {path: (None, None) for path in folders}
    trace_file, when, words = (tools.room / f"{kind}-{way}" for kind in ("trace", "when", "words"))
    listener = None
    try:
        build(files, [root])
        (root / "mailroot.toml").write_text(senders.SETTINGS)
        environment = {**os.environ, "FAULTS_ROOT": str(root), "FAULTS_TRACE": str(trace_file), "FAULTS_FAIL": WAYS[way],
                       "FAULTS_WHEN": str(when), "LD_PRELOAD": str(tools.faults)}  # fmt: skip
        with open(words, "wb") as said:
            listener = subprocess.Popen([tools.mailroot, "listen", root], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=said, stderr=said)  # fmt: skip
        port = senders.port_of(listener, words)
        when.touch()
        messages = senders.send(port) + senders.crowd(port)
        listener.terminate()
        if listener.wait(30) != 0:
            raise Trouble(f"{way}: the listener ended with {listener.returncode}: {words.read_text()[-2000:]}")
        ops = trace.read(trace_file, [str(root)], 0)
    finally:
        if listener and listener.poll() is None:
            listener.kill()
            listener.wait()
        shutil.rmtree(root, ignore_errors=True)
        for file in (trace_file, when, words):
            file.unlink(missing_ok=True)
    for op in ops:
        if op.call == "fsync" and op.path.startswith("0/Pickup") and syncs.PROBE not in op.path:
            op.kind = "Pickup after incoming" if "d" in op.flags else "incoming file"
    return Recording(way, files, ops, time.time() - time.monotonic(), messages)


class Found:
    def __init__(self):
        self.cuts, self.trees, self.wrong, self.most_promised = 0, {}, [], 0


def look(recording, ignores=None):
    """All trees of all cuts. `ignores`: a kind of sync that the disk does not do, though everybody believes it; then up to
    the first tree that shows it."""
    disk = Disk(recording.files, ignores=ignores)
    found, promised, seen = Found(), set(), set()
    for op in recording.ops:
        disk.play(op, recording.wall)
        if op.call == "send" and op.result > 0:
            promised |= {ident.decode() for ident in QUEUED.findall(op.data)}
            found.most_promised = len(promised)
        if (op.call == "recv" and op.result <= 0) or not explore.matters(op.path):
            continue
        found.cuts += 1
        for mark, tree in disk.cuts(explore.matters, recording.way):
            if mark not in found.trees:
                found.trees[mark] = (tree, *judged(tree, recording))
            _, whole, torn = found.trees[mark]
            wrong = [("lost", ident) for ident in promised - whole] + [("damaged", path) for path in torn]
            if wrong and (mark, len(promised)) not in seen:
                seen.add((mark, len(promised)))
                found.wrong.append((mark, *wrong[0]))
                if ignores:
                    return found
    return found


def judged(tree, recording):
    """(IDs of messages that are whole, files that somebody would take and that are not)"""
    whole, torn = set(), []
    for path, (data, _) in tree.items():
        name = path.rpartition("/")[2]
        if data is None or not path.startswith("0/Pickup/") or name.startswith("."):
            continue
        key = KEY.search(data)
        message = recording.messages.get(key.group(1)) if key else None
        if message and senders.is_whole(data, message):
            whole.add(name[:-4])
        else:
            torn.append(path)
    return whole, torn


def drained(recording, tree, whole, tools):
    """An engine on such a tree: what is whole arrives, once, and nothing else; else what is wrong."""
    root = tools.room / f"drained-{recording.way}"
    try:
        build(tree, [root])
        (root / "mailroot.toml").write_text(senders.SETTINGS)
        done = subprocess.run([tools.mailroot, "drain", root], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        arrived = sorted(KEY.findall(path.read_bytes())[0] for path in root.glob("Drop/*.EML"))
        wanted = sorted(KEY.findall(tree[f"0/Pickup/{ident}.EML"][0])[0] for ident in whole)
        return [] if done.returncode == 0 and arrived == wanted else [f"a drain: {done.returncode}, {arrived} of {wanted}"]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def chosen(found, most, seed):
    marks = list(found.trees)
    return marks if len(marks) <= most else random.Random(seed).sample(marks, most)
