"""A disk with a volatile write cache, for real file systems: what was written may be lost until a flush has been answered.

Run as a process of its own, this is a small file server of the kernel's (/dev/fuse): it serves one file, the disk, over which
a loop device is set up; a file system is made there and mounted. Every write and every flush that the file system gives
to its device comes here and is written down, when it came and when it was answered. Answers are given late by lot, so
that writes overtake each other. From these notes `image` makes what such a disk may hold after a cut at any moment:

* a write that was answered before a flush came which was answered before the cut is there;
* of every other write that had come, answered or not, any part may be there, in units of 512 bytes (`WAYS` says which
  choices are made). Where several of them hit the same place, any of them may be what is left, the older one too;
* nothing else is. A sector is there whole or not at all.

Not modelled: a disk that answers a flush and does not keep its word (but for a control: `keeps_its_word`), and one that spoils
what it was not asked to write. The kernel sends no writes while it waits for a flush to be answered.
"""

import ctypes
import errno
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
LATE = 0.0004  # seconds; at most so late a write is answered
FLUSH = 0.001  # so long a flush takes
WAYS = ("none", "all", "half", "few", "most", "newest", "one lost", "torn", "last torn")
MNT_DETACH = 2

# One event: its kind (below), the number of the request, the time (monotonic clock), offset, size; after `WRITE` the bytes.
EVENT = struct.Struct("<cQdQI")
WRITE, WRITTEN, FLUSHING, FLUSHED = b"W", b"w", b"F", b"f"


# ---- the process that is the disk ----

HEAD = struct.Struct("<IIQQIIIHH")  # of a request: length, opcode, unique, node, uid, gid, pid, …
FILE, FOLDER = 2, 1  # nodes
NAME = b"disk"
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITES, STATFS, RELEASE, FSYNC = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20
FLUSHES, INIT, OPENDIR, RELEASEDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET, FALLOCATE = 25, 26, 27, 29, 34, 36, 38, 42, 43
DIRECT, PARALLEL = 1, 1 << 6  # FOPEN_DIRECT_IO, FOPEN_PARALLEL_DIRECT_WRITES
ASYNC_READ, BIG_WRITES, ASYNC_DIO, MAX_PAGES = 1, 1 << 5, 1 << 15, 1 << 22
MOST = 1 << 20  # bytes of one request


class Server:
    """Serves the file `disk`, backed by `image`, in the folder `at`; notes go to `log`."""

    def __init__(self, image, at, log):
        self.image = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        self.lot = random.Random(1)
        self.late = []  # (when, unique, kind, bytes of the answer)
        mount("power-cut", at, "fuse", f"fd={self.device},rootmode=40000,user_id=0,group_id=0")

    def serve(self):
        while True:
            wait = max(0.0, min(one[0] for one in self.late) - time.monotonic()) if self.late else None
            select.select([self.device], [], [], wait)
            try:
                # All that has come is read before anything of it is answered.
                while request := os.read(self.device, MOST + 4096):
                    self.take(request)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return  # it was unmounted
                if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ENOENT):
                    raise
            now = time.monotonic()
            due = [one for one in self.late if one[0] <= now]
            self.late = [one for one in self.late if one[0] > now]
            for _, unique, kind, answer in sorted(due):
                self.note(kind, unique)
                self.answer(unique, answer)

    def note(self, kind, unique, offset=0, data=b""):
        os.write(self.log, EVENT.pack(kind, unique, time.monotonic(), offset, len(data)) + data)

    def answer(self, unique, data=b"", error=0):
        try:
            os.write(self.device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
        except OSError as trouble:
            if trouble.errno != errno.ENOENT:  # who asked has gone
                raise

    def take(self, request):
        _, opcode, unique, node, *_ = HEAD.unpack_from(request)
        body = memoryview(request)[HEAD.size :]
        if opcode == WRITES:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = bytes(body[40 : 40 + size])
            os.pwrite(self.image, data, offset)
            self.note(WRITE, unique, offset, data)
            self.late.append((time.monotonic() + self.lot.choice((0, 0, self.lot.random())) * LATE, unique, WRITTEN,
                              struct.pack("<II", size, 0)))  # fmt: skip
        elif opcode == FSYNC:
            self.note(FLUSHING, unique)
            self.late.append((time.monotonic() + FLUSH, unique, FLUSHED, b""))
        elif opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            self.answer(unique, os.pread(self.image, size, offset))
        elif opcode == INIT:
            flags = ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES
            self.answer(unique, struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, flags, 64, 64, MOST, 1, MOST // 4096, 0, 0))
        elif opcode == LOOKUP:
            if bytes(body).rstrip(b"\0") == NAME:
                self.answer(unique, struct.pack("<QQQQII", FILE, 0, 3600, 3600, 0, 0) + self.facts(FILE))
            else:
                self.answer(unique, error=errno.ENOENT)
        elif opcode in (GETATTR, SETATTR):
            self.answer(unique, struct.pack("<QII", 3600, 0, 0) + self.facts(node))
        elif opcode in (OPEN, OPENDIR):
            self.answer(unique, struct.pack("<QII", node, DIRECT | PARALLEL if opcode == OPEN else 0, 0))
        elif opcode == STATFS:
            self.answer(unique, struct.pack("<QQQQQIIII24x", self.size // 4096, 0, 0, 2, 0, 4096, 255, 4096, 0))
        elif opcode in (RELEASE, RELEASEDIR, FLUSHES, ACCESS, DESTROY):
            self.answer(unique)
        elif opcode not in (FORGET, BATCH_FORGET, INTERRUPT):
            self.answer(unique, error=errno.EOPNOTSUPP if opcode == FALLOCATE else errno.ENOSYS)

    def facts(self, node):
        mode, size = (0o100600, self.size) if node == FILE else (0o40700, 4096)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def mount(source, at, kind, options):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), os.fsencode(at), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {kind} at {at}: {os.strerror(ctypes.get_errno())}")


# ---- for who has one ----


class CachedDisk:
    """In `folder`, beginning with a copy of the image `base`; `device` is the loop device over it."""

    def __init__(self, base, folder):
        self.base, self.folder, self.at = base, folder, folder / "fuse"
        self.log, self.image = folder / "log", folder / "image"
        self.process, self.device = None, None

    def __enter__(self):
        self.at.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        run("cp", "--sparse=always", self.base, self.image)
        self.process = subprocess.Popen([sys.executable, "-B", __file__, self.image, self.at, self.log], stdin=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 20
            while not os.path.ismount(self.at):
                if self.process.poll() is not None or time.monotonic() > until:
                    raise OSError("the disk's process does not serve")
                time.sleep(0.005)
            self.device = run("losetup", "--find", "--show", "--direct-io=on", self.at / NAME.decode()).strip()
        except BaseException:
            self.__exit__()
            raise
        return self

    def goes_with_its_mount(self):
        """To be said once it is mounted: the loop device then ends with it, whatever happens to us."""
        run("losetup", "--detach", self.device)
        self.device = None

    def __exit__(self, *_):
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], capture_output=True, check=False)
        ctypes.CDLL(None).umount2(os.fsencode(self.at), MNT_DETACH)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()  # the kernel then answers by an error whatever still waits
            self.process.wait()


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


@dataclass(slots=True)
class Write:
    """`came` and `answered`: how many events there were before; `place`: of its bytes in the notes."""

    came: int
    answered: int
    offset: int
    size: int
    place: int


NEVER = 1 << 60


class Notes:
    """What a disk wrote down. A moment is a number of events: all that happened before it has happened."""

    def __init__(self, log):
        self.log = log
        self.times, self.writes, self.flushes = [], [], []  # flushes: (came, answered)
        self.read()

    def read(self):
        data = self.log.read_bytes()
        at, open_writes, open_flushes = 0, {}, {}
        while at + EVENT.size <= len(data):
            kind, unique, moment, offset, size = EVENT.unpack_from(data, at)
            at += EVENT.size
            number = len(self.times)
            self.times.append(moment)
            if kind == WRITE:
                open_writes[unique] = Write(number, NEVER, offset, size, at)
                self.writes.append(open_writes[unique])
                at += size
            elif kind == WRITTEN:
                open_writes.pop(unique).answered = number
            elif kind == FLUSHING:
                open_flushes[unique] = number
            else:
                self.flushes.append((open_flushes.pop(unique), number))

    def until(self, moment):
        """The latest time at which the disk still is as it is at this moment."""
        return self.times[moment] if moment < len(self.times) else float("inf")

    def at_time(self, when):
        """The moment that was at this time."""
        return sum(time < when for time in self.times)

    def sorted_out(self, moment, keeps_its_word=True):
        """(writes that are there for certain, writes that may be), each in the order in which they were made."""
        flushed = max((came for came, answered in self.flushes if answered < moment), default=0) if keeps_its_word else 0
        come = sorted((one for one in self.writes if one.came < moment), key=lambda one: (one.answered, one.came))
        return [one for one in come if one.answered < flushed], [one for one in come if one.answered >= flushed]


def image(notes, base, target, moment, way, seed, keeps_its_word=True):
    """Makes the file `target`: what the disk may hold after a cut at this moment; how many writes were at stake."""
    certain, possible = notes.sorted_out(moment, keeps_its_word)
    lot = random.Random(f"{seed} {moment} {way}")
    run("cp", "--sparse=always", base, target)
    with open(notes.log, "rb") as log, open(target, "r+b") as disk:
        for write, is_torn in [*((one, False) for one in certain), *choose(possible, way, lot)]:
            data = os.pread(log.fileno(), write.size, write.place)
            step = SECTOR if is_torn else write.size
            for start in range(0, write.size, step):
                if not is_torn or lot.random() < 0.5:
                    os.pwrite(disk.fileno(), data[start : start + step], write.offset + start)
    return len(possible)


def choose(possible, way, lot):
    """(write, whether only some of its sectors are there) of those that are."""
    if way == "newest":
        possible = possible[-lot.randint(1, max(1, len(possible) // 2)) :]
    lost = lot.choice(possible) if possible and way == "one lost" else None
    last = possible[-1] if possible and way == "last torn" else None
    chance = {"none": 0.0, "half": 0.5, "few": 0.15, "most": 0.85, "torn": 0.8}.get(way, 1.0)
    return [(one, way == "torn" or one is last) for one in possible if one is not lost and lot.random() < chance]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has the disk ends it
    Server(*sys.argv[1:]).serve()
