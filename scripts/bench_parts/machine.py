"""Where it is measured: the work folder, what kind of disk it lies on, and what the machine is."""

import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

IMAGE_BYTES = 16 << 30  # sparse
RESULTS_OF_FSYNC = 50


class Disk:
    """A folder that is gone afterwards; as root a fresh journaled ext4 in a loop-mounted image."""

    def __init__(self, outer, name, no_image):
        self.outer, self.path = outer, outer / name
        self.path.mkdir()
        self.image = outer / f"{name}.img"
        self.why_plain = "--no-image" if no_image else self._mount()

    def _mount(self):
        """None when the image is mounted, else why it is not."""
        if os.geteuid() != 0:
            return "no image: only root can mount one"
        if not shutil.which("mkfs.ext4"):
            return "no image: there is no mkfs.ext4"
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        # Everything is written now rather than by the kernel while something is measured.
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        for command in (
            ["mkfs.ext4", "-q", "-F", "-i", "4096", "-E", lazy, str(self.image)],
            ["mount", "-o", "loop,relatime", str(self.image), str(self.path)],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                self.image.unlink()
                return f"no image: {command[0]}: {done.stderr.strip()}"
        os.sync()
        return None

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        if self.why_plain is None:
            for _ in range(40):
                if subprocess.run(["umount", str(self.path)], capture_output=True).returncode == 0:
                    break
                time.sleep(0.25)
            else:
                print(f"bench: cannot unmount {self.path}; left as it is")
                return
            self.image.unlink()
        shutil.rmtree(self.path, ignore_errors=True)


class Workplace:
    """Where all rows work; some want a disk of their own, so that what they leave behind does not age this one."""

    def __init__(self, parent, no_image):
        self.no_image = no_image
        self.outer = Path(tempfile.mkdtemp(prefix="mailroot-bench-", dir=parent))
        self.outer.chmod(0o755)  # Postfix looks in as another user
        self.disk = Disk(self.outer, "disk", no_image)
        self.path, self.why_plain = self.disk.path, self.disk.why_plain

    def fresh(self, name):
        """Another one like it."""
        return Disk(self.outer, name, self.no_image)

    def room(self):
        """Bytes that images may still take."""
        return shutil.disk_usage(self.outer).free

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disk.__exit__()
        if not os.path.ismount(self.path):
            shutil.rmtree(self.outer, ignore_errors=True)


def describe(place):
    """Lines about the machine, the file system, the time of a sync there, and how busy it was."""
    memory = next((line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")), "0")
    load = os.getloadavg()
    return [
        f"machine: {os.cpu_count()} × {_processor()}, {int(memory) >> 20} GiB, {platform.system()} {platform.release()}",
        f"disk: {_file_system(place)}; write + fsync of 4 KiB: {fsync_time(place.path)}",
        f"load when it began: {load[0]:.1f} (1 min), {load[1]:.1f} (5 min)"
        + ("  ← others are at work: ratios hold better than rates" if load[0] > 1 else ""),
        time.strftime("date: %Y-%m-%d %H:%M UTC", time.gmtime()),
    ]


def afterwards(left_out):
    """Lines for the end: whether others have been at work, and which rows nobody has asked for."""
    lines = [f"load when it ended: {os.getloadavg()[0]:.1f} (1 min)"]
    return lines + ([f"rows left out: {', '.join(left_out)}"] if left_out else [])


def _processor():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(place):
    best = ("", "unknown", "")
    here = str(place.path)
    for line in open("/proc/mounts"):
        _, point, kind, options, *_ = line.split()
        if (here + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
            best = (point, kind, options)
    how = "in a loop-mounted image" if place.why_plain is None else place.why_plain
    return f"{best[1]} ({best[2]}), {how}"


def fsync_time(folder):
    """Median and the slowest tenth, in words."""
    times = []
    path = folder / "fsync-probe"
    with open(path, "wb", buffering=0) as file:
        for _ in range(RESULTS_OF_FSYNC):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    path.unlink()
    slow = sorted(times)[len(times) * 9 // 10]
    return f"{statistics.median(times):.2f} ms (a tenth takes over {slow:.2f} ms)"
