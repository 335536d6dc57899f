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
    """A folder that is gone afterwards."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=shm))
    mounted = None
    try:
        if with_journal:
            image, mounted = folder / "image", folder / "disk"
            mounted.mkdir()
            subprocess.run(["truncate", "-s", SIZE, image], check=True)
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,root_owner=0:0", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
        yield mounted or folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", mounted], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
