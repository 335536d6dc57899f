"""The same on real file systems, over a disk with a volatile write cache (cached_disk.py): the code of ext4 and XFS decides what
a cut leaves, not our model of it.

Two scenes. `listener`: many sessions send at once; at each cut that is tried, what had got its 250 by then lies in Pickup,
and all that lies there is whole. `engine`: a batch of all kinds of mail; at each cut no file in Queue, Drop and Badmail is
torn, an engine finishes what is left there, and what came of it is held against what had been promised (verdict.py). The
engine runs under trace, which makes its calls one at a time but tells all that it promised; and `engine, at once`
without trace, where only what the mail host took is known to have been promised: nothing may be lost or torn there.

Then controls, which must be noticed: the bytes of new files are not written out, folders are not synced (scripts/faults
lies about it), and the disk does not keep what it was told to flush.
"""

import ctypes
import dataclasses
import functools
import os
import pickle
import random
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sweep_parts import reception as senders

from . import afterwards, batches, cached_disk, letters, promise, record, syncs, trace, verdict
from .cached_disk import CachedDisk, Notes
from .disk import Disk
from .reception import KEY


@dataclass(frozen=True)
class Kind:
    """A file system. `is_extra`: only tried when it is asked for by name (--disk). `spared`: the lie that does no harm there."""

    name: str
    size: str
    make: tuple
    options: str = ""
    is_extra: bool = False
    spared: str = ""

    @property
    def system(self):
        return self.name.split(" ")[0]

    @property
    def is_always(self):
        """Also in the quick form, and with controls."""
        return self.name == self.system


NO_BYTES, NO_NAMES, NO_FLUSH = "the bytes of new files", "the names in folders", "what the disk was told to flush"
EXT4 = ("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-b")
XFS = ("mkfs.xfs", "-q")
KINDS = [
    Kind("ext4", "48M", (*EXT4, "4096")),
    Kind("xfs", "300M", XFS),
    Kind("ext4 1 KiB", "48M", (*EXT4, "1024")),
    Kind("ext4 fast_commit", "48M", (*EXT4, "4096", "-O", "fast_commit")),
    Kind("ext4 no extents", "48M", (*EXT4, "1024", "-O", "^extents,^64bit"), "", True),
    Kind("ext4 data=writeback", "48M", (*EXT4, "4096"), "data=writeback", True),
    Kind("ext4 data=journal", "96M", (*EXT4, "4096", "-J", "size=32"), "data=journal", True, NO_BYTES),
    Kind("ext4 nodelalloc", "48M", (*EXT4, "4096"), "nodelalloc", True, NO_BYTES),
    Kind("ext4 dioread_lock", "48M", (*EXT4, "4096"), "dioread_lock", True),
    Kind("ext4 inline_data", "48M", (*EXT4, "4096", "-I", "1024", "-O", "inline_data"), "", True),
    Kind("ext4 no checksums", "48M", (*EXT4, "4096", "-O", "^metadata_csum,^orphan_file"), "", True),
    Kind("ext4 bigalloc", "96M", (*EXT4, "4096", "-O", "bigalloc"), "", True),
    Kind("xfs no rmap", "300M", (*XFS, "-m", "rmapbt=0,reflink=0"), "", True),
    Kind("xfs rmap", "300M", (*XFS, "-m", "rmapbt=1"), "", True),
    Kind("xfs 1 KiB", "300M", (*XFS, "-b", "size=1024"), "", True),
    Kind("xfs wsync", "300M", XFS, "wsync,logbsize=256k", True, NO_NAMES),
]

SESSIONS, EACH = 24, 4
LINES = (1, 1, 180, 180, 12000, 400)  # of a message: 100 bytes, 5 KB, 300 KB, 10 KB
CONTROLS = {
    "listener": {NO_BYTES: "syncfile@/Pickup=LIE", NO_NAMES: "syncfolder@/Pickup=LIE"},
    "engine": {NO_BYTES: "syncfile@.TMP=LIE", NO_NAMES: "syncfolder@=LIE"},
}


def why_not(kind):
    if os.geteuid() != 0:
        return "not root"
    if not shutil.which(kind.make[0]):
        return f"{kind.make[0]} is missing (apt-get install {'xfsprogs' if kind.system == 'xfs' else 'e2fsprogs'})"
    for system in (kind.system, "fuse"):
        known = Path("/proc/filesystems").read_text().split()
        if system not in known and subprocess.run(["modprobe", system], capture_output=True).returncode:
            return f"the kernel has no {system}"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.R_OK | os.W_OK):
            return f"there is no {device}"
    return None


def run(*command):
    try:
        return cached_disk.run(*command)
    except OSError as trouble:
        raise record.Trouble(str(trouble)) from None


class Mounted:
    """A device or an image, mounted."""

    def __init__(self, device, kind, at):
        self.device, self.kind, self.at = device, kind, at

    def __enter__(self):
        self.at.mkdir(parents=True, exist_ok=True)
        options = ["nouuid"] if self.kind.system == "xfs" else []
        options += [self.kind.options] if self.kind.options else []
        options += ["loop"] if self.device.is_file() else []
        cached_disk.run("mount", "-t", self.kind.system, "-o", ",".join(options) or "rw", self.device, self.at)
        return self.at

    def __exit__(self, *_):
        for _ in range(50):
            if subprocess.run(["umount", self.at], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", self.at], capture_output=True)


@dataclass
class Recording:
    """What was done on the disk, and what had been promised when."""

    kind: Kind
    scene: str
    base: Path  # the image before
    log: Path
    begin: float  # times between which cuts are made
    end: float
    messages: list = ()  # of the listener; `heard` says when
    batch: object = None
    ops: list = ()
    files: dict = None
    kept: list = ()  # (when, copy) of the mail host, where there is no trace

    @functools.cached_property
    def notes(self):
        return Notes(self.log)

    def said(self):
        """The times at which something was promised."""
        synced = [op.time for op in self.ops if op.call == "fsync"]
        return [message.heard for message in self.messages if message.ident] + synced + [when for when, _ in self.kept]


@dataclass(frozen=True)
class Cut:
    moment: int
    way: str
    promised: object  # identifiers of messages, or a Promise
    keeps_its_word: bool = True


def base_of(kind, tools):
    """A fresh file system."""
    folder = tools.room / "disks"
    folder.mkdir(exist_ok=True)
    base = folder / f"{kind.name.replace(' ', '-')}.base"
    if not base.exists():
        raw = base.with_suffix(".raw")
        run("truncate", "-s", kind.size, raw)
        run(*kind.make, raw)
        run("cp", "--sparse=always", raw, base)  # the zeros of a journal are not needed
        raw.unlink()
    return base


def sync_all(folder):
    at = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None).syncfs(at):
            raise record.Trouble(f"{folder} cannot be synced")
    finally:
        os.close(at)


class Live:
    """A file system on such a disk, mounted."""

    def __init__(self, kind, scene, tools):
        self.kind, self.base = kind, base_of(kind, tools)
        self.folder = tools.room / "disks" / scene.replace(" ", "-")
        self.disk = CachedDisk(self.base, self.folder)
        self.mounted = None

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.disk.__enter__()
        try:
            self.mounted = Mounted(Path(self.disk.device), self.kind, self.folder / "live")
            at = self.mounted.__enter__()
            self.disk.goes_with_its_mount()
            return at
        except BaseException:
            self.disk.__exit__()
            raise

    def __exit__(self, *_):
        try:
            self.mounted.__exit__()
        finally:
            self.disk.__exit__()


def preload(tools, root, rules, **more):
    if not rules and not more:
        return dict(os.environ)  # nothing between the program and the disk
    return {**os.environ, "FAULTS_ROOT": str(root), "FAULTS_FAIL": rules, "LD_PRELOAD": str(tools.faults), **more}


def record_listener(kind, tools, scene, rules=""):
    live = Live(kind, scene, tools)
    with live as at:
        root, words = at / "tree", live.folder / "words"
        record.build({"0/Pickup": (None, None), **{f"0/{name}": (None, None) for name in batches.FOLDERS}}, [root])
        (root / "mailroot.toml").write_text(senders.SETTINGS + 'min_free = "1MiB"\n')
        sync_all(root)
        with open(words, "wb") as said:
            environment = preload(tools, root, rules)
            listener = subprocess.Popen([tools.mailroot, "listen", root], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=said, stderr=said)  # fmt: skip
        try:
            port = senders.port_of(listener, words)
            begin = time.monotonic()
            messages = senders.crowd(port, SESSIONS, EACH, lambda number, n: LINES[(number + n) % len(LINES)])
            end = time.monotonic()
        finally:
            end_of(listener)
    if missing := sum(not m.ident for m in messages):
        raise record.Trouble(f"{kind.name}: {missing} of {len(messages)} messages got no 250: {words.read_text()[-1000:]}")
    return Recording(kind, "listener", live.base, live.disk.log, begin, end, messages=messages)


def end_of(process):
    """Asked to end, and waited for."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def record_engine(kind, tools, scene, rules="", traced=True):
    for _ in range(4):
        recording = record_engine_once(kind, tools, scene, rules, traced)
        if recording:
            return recording
    raise record.Trouble(f"{kind.name}: this machine is too busy, mailroot {record.MISSED} again and again")


def record_engine_once(kind, tools, scene, rules, traced):
    batch = batches.real_batch(24 if traced else 60)
    live = Live(kind, scene, tools)
    files = record.beginning(batch, time.time())
    sink = record.Sink(batch.bodies)
    trace_file = live.folder / "trace"
    try:
        with live as at:
            root = at / "tree"
            record.build(files, [root])
            (root / "mailroot.toml").write_text(record.settings(batch, sink.port, [root], False))
            sync_all(root)
            environment = preload(tools, root, rules, **({"FAULTS_TRACE": str(trace_file)} if traced else {}))
            begin = time.monotonic()
            with open(live.folder / "words", "wb") as words:
                engine = subprocess.Popen([tools.mailroot, "run", root], env=environment, stdin=subprocess.DEVNULL,
                                          stdout=words, stderr=words)  # fmt: skip
            try:
                looks, until = 0, begin + 60
                while looks < 3 and time.monotonic() < until and engine.poll() is None:
                    looks = looks + 1 if not any(record.messages([root])) else 0
                    time.sleep(0.05)
                time.sleep(0.3)  # the flush
                end = time.monotonic()
            finally:
                end_of(engine)
            said = (live.folder / "words").read_text()
            if record.MISSED in said:
                return None
            if looks < 3:
                left = [str(p) for p in record.messages([root])]
                raise record.Trouble(f"{kind.name}: the engine does not come to an end: {left[:5]} {said[-1000:]}")
            ops = trace.read(trace_file, [str(root)], 0) if traced else []
    finally:
        sink.close()
    syncs.classify(ops)
    kept = [] if traced else list(sink.kept)
    name = "engine" if traced else "engine, at once"
    return Recording(kind, name, live.base, live.disk.log, begin, end, batch=batch, ops=ops, files=files, kept=kept)


RECORD = {
    "listener": record_listener,
    "engine": record_engine,
    "engine, at once": functools.partial(record_engine, traced=False),
}
QUICK = ("listener", "engine")


def plan(recording, count, seed, keeps_its_word=True, from_half=False):
    """The cuts: half of them right after something had been promised, a quarter right before a flush is answered (then most
    is at stake), a quarter at any time. `from_half`: only where much has been promised."""
    notes, lot = recording.notes, random.Random(f"{recording.kind.name} {recording.scene} {seed}")
    promises = sorted(when for when in recording.said() if recording.begin < when <= recording.end)
    begin = promises[len(promises) // 2] if from_half else recording.begin
    first, last = notes.at_time(begin), notes.at_time(recording.end)
    said = [notes.at_time(when) for when in promises if when >= begin]
    flushes = [answered for _, answered in notes.flushes if first <= answered <= last]
    choices = [range(first, last + 1), said, flushes, said]
    moments = [lot.choice(choices[n % 4] or choices[0]) for n in range(count)]
    ways = [cached_disk.WAYS[n % len(cached_disk.WAYS)] for n in range(count)]
    lot.shuffle(ways)
    promised = Promised(recording)
    return [Cut(moment, way, promised.until(notes.until(moment)), keeps_its_word) for moment, way in zip(sorted(moments), ways)]


def selftest(kind, tools):
    """A flush comes to the disk and is answered before an fsync returns, and what was not synced can be lost; or this
    table proves nothing."""
    live = Live(kind, "selftest", tools)
    with live as at:
        sync_all(at)
        (at / "unsynced").write_bytes(b"x" * 5000)
        before = time.monotonic()
        with open(at / "synced", "wb") as file:
            file.write(b"y" * 5000)
            file.flush()
            os.fsync(file.fileno())
        after = time.monotonic()
    notes = Notes(live.disk.log)
    flushed = [1 for came, answered in notes.flushes if before < notes.times[came] and notes.times[answered] < after]
    if not flushed:
        raise record.Trouble(f"{kind.name}: an fsync returned, and the disk had answered no flush")
    image = live.folder / "cut"
    for when, keeps_its_word, is_there in ((before, True, False), (after, True, True), (after, False, False)):
        cached_disk.image(notes, live.base, image, notes.at_time(when), "none", 0, keeps_its_word)
        with Mounted(image, kind, live.folder / "at") as at:
            found = at / "synced"
            if (found.exists() and found.read_bytes() == b"y" * 5000) != is_there:
                did = "lost what was synced" if is_there else "kept what was not flushed"
                raise record.Trouble(f"{kind.name}: the disk {did}")


class Promised:
    """What had been promised at a time; to be asked in order."""

    def __init__(self, recording):
        self.recording, self.at = recording, 0
        self.disk = Disk(recording.files or {})
        self.promises = promise.Promises(self.disk)

    def until(self, when):
        if self.recording.scene == "listener":
            return frozenset(m.ident for m in self.recording.messages if m.ident and m.heard < when)
        while self.at < len(self.recording.ops) and self.recording.ops[self.at].time < when:
            op = self.recording.ops[self.at]
            self.disk.play(op, 0.0)
            self.promises.follow(op)
            self.at += 1
        accepted = Counter()
        for _, (name, kind, to, about, _) in (one for one in self.recording.kept if one[0] < when):
            accepted.update((name, kind, address) for address in (about if kind != "mail" else to))
        self.promises.accepted |= accepted
        return self.promises.now()


@functools.lru_cache(1)
def loaded(path, _when):
    with open(path, "rb") as file:
        recording = pickle.load(file)
    return recording


def keep(recording):
    """For the workers: the path of the file that holds it."""
    path = recording.log.with_name("recording")
    slim = dataclasses.replace(recording, ops=[], files=None, kept=[])
    path.write_bytes(pickle.dumps(slim))
    return path


def look(task):
    """One cut, in a worker: ([(violation, words)], whether something came again, writes at stake). None: not counted."""
    tools, path, when, cut, seed = task
    recording = loaded(path, when)
    folder = tools.room / "disks" / f"cut-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    image = folder / "image"
    try:
        stake = cached_disk.image(recording.notes, recording.base, image, cut.moment, cut.way, seed, cut.keeps_its_word)
        try:
            with Mounted(image, recording.kind, folder / "at") as at:
                wrong, again = (in_pickup if recording.scene == "listener" else finished)(recording, cut, at / "tree", tools)
        except OSError as trouble:
            wrong, again = [("lost", f"all of it: {trouble}")], False
        return cut, wrong, again, stake
    finally:
        image.unlink(missing_ok=True)


def in_pickup(recording, cut, root, _):
    by_key = {message.key.encode(): message for message in recording.messages}
    whole, wrong = set(), []
    for path in sorted((root / "Pickup").glob("*.EML")):
        data = path.read_bytes()
        key = KEY.search(data)
        message = by_key.get(key.group(1)) if key else None
        if message and senders.is_whole(data, message):
            whole.add(path.stem)
        elif not path.name.startswith("."):
            wrong.append(("damaged", f"{path.name} ({len(data)} bytes)"))
    return wrong + [("lost", ident) for ident in sorted(cut.promised - whole)], False


def finished(recording, cut, root, tools):
    wrong = torn(root, recording.batch)
    outcome = afterwards.on_the_spot(tools, recording.batch, [root])
    if outcome is None:
        return wrong or None, False
    said = verdict.judge(recording.batch, cut.promised, outcome)
    return wrong + said.wrong, bool(said.repeated)


def torn(root, batch):
    """Files that have the name by which they are found and are not whole."""
    wrong = []
    for folder, end in (("Queue", "EML"), ("Queue", "ENV"), ("Drop", "EML"), ("Badmail", "B??")):
        for path in sorted((root / folder).glob(f"*.{end}")):
            data = path.read_bytes()
            if end == "ENV":
                good = letters.record(data) is not None
            elif path.suffix in (".BDR", ".BDP"):
                good = data.endswith(b"\n") and b"\0" not in data
            else:
                good = letters.is_whole(data, batch.bodies)
            if not good:
                wrong.append(("damaged", f"{folder}/{path.name} ({len(data)} bytes), as it was found after the cut"))
    return wrong


class Found:
    """Of one scene on one file system."""

    def __init__(self):
        self.cuts = self.again = self.stake = self.busy = 0
        self.wrong = []

    def counts(self):
        """How many cuts showed it."""
        return Counter(kind for _, wrong in self.wrong for kind in {kind for kind, _ in wrong})


def tried(recording, cuts, tools, pool, seed):
    found = Found()
    path = keep(recording)
    tasks = [(tools, path, time.monotonic(), cut, seed) for cut in cuts]
    for cut, wrong, again, stake in pool.imap_unordered(look, tasks):
        if wrong is None:
            found.busy += 1  # this machine did not let the engine beat in time
            continue
        found.cuts += 1
        found.again += again
        found.stake += stake
        if wrong:
            found.wrong.append((cut, wrong))
    return found
