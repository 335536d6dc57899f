"""Where trees are laid out: in memory, as root on an ext4 with a journal in memory, since mailroot syncs less there."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SIZE = "2G"  # sparse


def why_no_journal():
    """None where such a file system can be made."""
    if os.geteuid() != 0:
        return "not root"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is missing (apt-get install e2fsprogs)"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return None


@contextlib.contextmanager
def ground(prefix, with_journal):
    """A folder that is gone afterwards, and why it is not on a journal (None when it is)."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=shm))
    disk = folder / "disk"
    disk.mkdir()
    why_not = (why_no_journal() or mounted(folder / "image", disk)) if with_journal else "as asked"
    try:
        yield disk, why_not
    finally:
        if not why_not:
            subprocess.run(["umount", "-l", disk], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def mounted(image, at):
    """None, or why it cannot be mounted there."""
    for command in (["truncate", "-s", SIZE, image], ["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, at]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{command[0]}: {done.stderr.strip()}"
    return None
