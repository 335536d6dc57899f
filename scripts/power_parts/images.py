"""The same on real file systems: an image in a loop device, copied while a batch runs, mounted again.

What the file system has handed to its device is in the image file, and what it has not is lost in the copy: as at a power
cut of a disk that loses nothing it was given. The engine stands still while the file is copied. What the device was given
between two copies is not seen: this tries few moments, the simulated disk tries all.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from . import afterwards, promise, record, trace
from .disk import Disk

SIZES = {"ext4": "24M", "xfs": "320M"}
MAKE = {"ext4": ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"], "xfs": ["mkfs.xfs", "-q"]}


def why_not(kind):
    if os.geteuid() != 0:
        return "not root"
    if not shutil.which(MAKE[kind][0]):
        return f"{MAKE[kind][0]} is missing (apt-get install {'xfsprogs' if kind == 'xfs' else 'e2fsprogs'})"
    if kind not in Path("/proc/filesystems").read_text().split() and subprocess.run(["modprobe", kind], capture_output=True).returncode:
        return f"the kernel has no {kind}"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return None


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise record.Trouble(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


class Mounted:
    """An image, mounted."""

    def __init__(self, image, at):
        self.image, self.at = image, at

    def __enter__(self):
        self.at.mkdir(parents=True, exist_ok=True)
        kind = ["-o", "loop,nouuid"] if self.image.name.endswith("xfs") else ["-o", "loop"]
        run("mount", *kind, self.image, self.at)
        return self.at

    def __exit__(self, *_):
        for _ in range(50):
            if subprocess.run(["umount", self.at], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", self.at], capture_output=True)


def snapshots(kind, batch, tools, moments, every):
    """Runs the batch on an image; yields (copy of the image, trace so far, files) for so many moments."""
    folder = tools.room / f"images-{kind}"
    folder.mkdir(exist_ok=True)
    image = folder / f"disk.{kind}"
    run("truncate", "-s", SIZES[kind], image)
    run(*MAKE[kind], image)
    copies = []
    with Mounted(image, folder / "live") as live:
        roots = [live / "tree"]
        sink = record.Sink(batch.bodies)
        files = record.beginning(batch, time.time())
        stage = record.Stage(batch, tools, roots, sink)
        trace_file = folder / "trace"
        trace_file.unlink(missing_ok=True)
        try:
            record.build(files, roots)
            (roots[0] / "mailroot.toml").write_text(record.settings(batch, sink.port, roots, False))
            os.sync()
            process = stage.spawn([tools.mailroot, "run", roots[0]], trace_file, {})
            for number in range(moments):
                time.sleep(every)
                process.send_signal(signal.SIGSTOP)
                wait_until_stopped(process.pid)
                copy = folder / f"{number}.{kind}"
                for _ in range(20):  # the system may be writing just now: a copy of half of that is no state of the disk
                    run("cp", "--sparse=always", image, copy)
                    if subprocess.run(["cmp", "-s", image, copy]).returncode == 0:
                        break
                copies.append((copy, trace_file.read_bytes() if trace_file.exists() else b""))
                process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            stage.process.communicate(timeout=30)
        finally:
            stage.end()
            sink.close()
    return copies, files, [str(r) for r in roots]


def wait_until_stopped(pid):
    for _ in range(200):
        states = {Path(f"/proc/{pid}/task/{t}/stat").read_text().rpartition(")")[2].split()[0] for t in os.listdir(f"/proc/{pid}/task")}
        if states <= {"T", "Z", "X"}:
            return
        time.sleep(0.005)


def promised(batch, files, text, roots, room):
    """What the trace so far promises."""
    from . import syncs

    path = room / "trace-so-far"
    path.write_bytes(text)
    ops = trace.read(path, roots, 0)
    syncs.classify(ops)
    disk = Disk(files)
    promises = promise.Promises(disk)
    for op in ops:
        disk.play(op, 0.0)
        promises.follow(op)
    return promises.now()


def afterwards_of(kind, batch, tools, copy):
    """Mounts the copy, which replays the journal; the engine finishes there."""
    at = tools.room / f"images-{kind}" / "after"
    with Mounted(copy, at):
        return afterwards.on_the_spot(tools, batch, [at / "tree"])
