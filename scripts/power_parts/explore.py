"""From a trace to trees: what the disk may hold at each moment, and what had been promised at that moment."""

from .disk import Disk
from .promise import Promises
from .syncs import PROBE

# What is never synced and never read back as truth: it does not multiply the trees. Transcripts are there as they were
# written, heartbeats are given out by lot (afterwards.heartbeats).
INCIDENTAL = ("0/Status/", "0/Logs/", "0/mailroot.toml")


def matters(path):
    return not path.startswith(INCIDENTAL) and not path.endswith((".LTR", ".RTR")) and PROBE not in path


class Explored:
    """`pairs`: (fingerprint, promise) of all that is possible, in order, without doubles."""

    def __init__(self):
        self.trees = {}
        self.pairs = {}
        self.cuts = 0
        self.slowest = 0.0
        self.promises = None


def explore(recording, ignores=None, only_new_to=None):
    """`ignores`: a kind of sync that the disk does not do, though everybody believes it. `only_new_to`: leaves out the
    pairs that are possible anyway."""
    begin = (recording.files, recording.unsynced)
    disk = Disk(*begin)
    forgetful = Disk(*begin, ignores) if ignores else disk
    promises = Promises(disk)
    found = Explored()
    seed = recording.batch.name
    for op in recording.ops:
        disk.play(op, recording.wall)
        if forgetful is not disk:
            forgetful.play(op, recording.wall)
        promises.follow(op)
        if op.call == "recv" and op.result <= 0:
            continue
        if not matters(op.path):
            continue
        found.cuts += 1
        now = promises.now()
        for mark, tree in forgetful.cuts(matters, seed):
            pair = (mark, now)
            if pair in found.pairs or (only_new_to and pair in only_new_to.pairs):
                continue
            found.pairs[pair] = None
            if mark not in found.trees:
                found.trees[mark] = {**tree, **transcripts(disk)}
    found.slowest = promises.slowest
    found.promises = promises
    return found


def transcripts(disk):
    """By lot of their number: as written, or half of it."""
    there = {}
    for path, name in disk.names.items():
        if path.endswith((".LTR", ".RTR")):
            file = name.now(path)
            if file is not None:
                keep = len(file.current) if file.number % 2 else len(file.current) // 2
                there[path] = (file.current[:keep], file.mtime)
    return there
