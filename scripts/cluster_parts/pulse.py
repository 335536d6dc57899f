"""How long the storage itself takes for what a node does with a message, beside the nodes.

Every quarter of a second a small file goes the way of a message: made in Pickup, renamed into Queue, removed, by names
that no node takes for mail. What takes long here takes long for everybody, whatever mailroot does.
"""

import contextlib
import os
import threading
import time

MARK = ".pulse-"
EVERY = 0.25


class Pulse(threading.Thread):
    def __init__(self, root):
        super().__init__(daemon=True)
        self.root = root
        self.beats = []  # (begin, end)
        self.halt = threading.Event()
        self.began = None  # of the beat that is under way

    def run(self):
        number = 0
        while not self.halt.wait(EVERY):
            number += 1
            here, there = self.root / "Pickup" / f"{MARK}{number}", self.root / "Queue" / f"{MARK}{number}"
            self.began = time.monotonic()
            with contextlib.suppress(OSError):
                here.write_bytes(b"x")
                os.rename(here, there)
            for path in (here, there):
                with contextlib.suppress(OSError):
                    path.unlink()
            self.beats.append((self.began, time.monotonic()))
            self.began = None

    def longest(self, begin, end):
        """The longest of the beats that reach into begin…end, in seconds."""
        now, began = time.monotonic(), self.began
        beats = [*self.beats, *([(began, now)] if began else [])]
        return max((done - start for start, done in beats if done > begin and start < end), default=0.0)

    def stop(self):
        self.halt.set()
        self.join(60)
        for folder in ("Pickup", "Queue"):
            with contextlib.suppress(OSError):
                for name in os.listdir(self.root / folder):
                    if name.startswith(MARK):
                        (self.root / folder / name).unlink()


def returned(roots, since, patience):
    """Seconds from `since` until the storage takes a file again by each of these ways to it; None: not in time."""
    def takes_one(number, root):
        path = root / "Queue" / f"{MARK}back-{number}"
        while time.monotonic() < since + patience:
            try:
                path.write_bytes(b"x")
                path.unlink()
                took.append(time.monotonic() - since)
                return
            except OSError:
                time.sleep(0.1)

    took = []
    threads = [threading.Thread(target=takes_one, args=one, daemon=True) for one in enumerate(roots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, since + patience - time.monotonic()))
    return max(took) if len(took) == len(roots) else None
