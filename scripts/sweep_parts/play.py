"""One point: the tree is set up, the engine is killed there, started again until nothing is left to do, and judged."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from .batches import settings_of
from .calls import read_log

FOLDERS = ("Pickup", "Queue", "Drop", "Badmail", "Status/nodes", "Logs")
# A killed or finished engine must be through with so little mail long before that.
PATIENCE = 15
TICK = 0.003
# The first of what an engine does after it has made the tree and put the storage to the proof.
ENTRY = "/Status/nodes"


class Stuck(Exception):
    """Something did not come to its end."""


@dataclass
class Played:
    """What one point was like, for the judge."""

    place: "Place"
    logs: list
    killed: list
    stuck: str = ""
    seconds: float = 0
    notes: dict = field(default_factory=dict)


class Place:
    """The tree of one point, and the engine at work on it."""

    def __init__(self, tools, batch, sink, root, other):
        self.tools, self.batch, self.sink, self.root = tools, batch, sink, root
        self.tree = root / "mailroot"
        self.pickup = other / root.name if batch.other_volume else self.tree / "Pickup"
        self.engine = None
        self.notes = {}
        self.runs = 0

    def build(self):
        for name in FOLDERS:
            (self.tree / name).mkdir(parents=True)
        self.pickup.mkdir(parents=True, exist_ok=True)
        self.write_settings()
        self.sink.reset()
        self.batch.prepare(self)

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)
        if self.batch.other_volume:
            shutil.rmtree(self.pickup, ignore_errors=True)

    def write_settings(self, text=None):
        new = self.root / "settings"
        new.write_text(settings_of(self.batch, self.sink.ports, self.pickup, text))
        new.rename(self.tree / "mailroot.toml")

    def submit(self, letter):
        self.write(self.pickup / f"{letter.key}.eml", letter.file)

    def write(self, path, data):
        path.write_bytes(data)
        self.age(path)

    def age(self, path):
        """Long enough unwritten, so that nobody waits for its writer."""
        then = time.time() - 5
        os.utime(path, (then, then))

    def move(self, old, new):
        """`mv -n` of an operator; the engine may have been quicker."""
        try:
            if not new.exists():
                old.rename(new)
        except FileNotFoundError:
            pass

    def queue(self):
        return names(self.tree / "Queue")

    def start(self, verb, kill=None, control=None):
        self.runs += 1
        environment = {"PATH": os.environ["PATH"], "RUST_BACKTRACE": "1"}
        log = None
        if kill or control:
            log = self.root / f"calls-{self.runs}"
            environment |= {"LD_PRELOAD": str(self.tools.library), "FAULTS_ROOT": f"{self.tree}:{self.pickup}",
                            "FAULTS_LOG": str(log), "FAULTS_WHO": "1"}
            if kill:
                environment["FAULTS_KILL"] = kill
            if not self.batch.from_the_start:
                environment["FAULTS_FROM"] = ENTRY
            if control:
                environment["FAULTS_FAIL"] = control
        with open(self.root / f"log-{self.runs}", "wb") as words:
            self.engine = subprocess.Popen([self.tools.program, verb, str(self.tree)], env=environment, stderr=words,
                                           stdout=words, stdin=subprocess.DEVNULL, close_fds=False)
        return log

    def drain_undisturbed(self):
        self.start("drain")
        self.end()

    def end(self):
        """Waits for the engine to end; its exit code."""
        try:
            return self.engine.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.engine.kill()
            self.engine.wait()
            raise Stuck("the engine does not end") from None
        finally:
            self.engine = None

    def is_quiet(self):
        """Nothing is left to do. Pickup first: what a claim moves meanwhile is seen in Queue."""
        waiting = [name for name in names(self.pickup) if not name.startswith(".")]
        queue = [name for name in self.queue() if not name.startswith(".")]
        return not waiting and not any(name.endswith((".EML", ".HOLD", ".TMP")) for name in queue)

    def serve(self, verb, kill=None, control=None):
        """One engine from its start to its end; (exit code, log of its calls)."""
        log = self.start(verb, kill, control)
        words = self.root / f"log-{self.runs}"
        until = time.monotonic() + PATIENCE
        quiet = 0
        while verb == "run" and self.engine.poll() is None:
            self.batch.meanwhile(self)
            quiet = quiet + 1 if self.is_quiet() and self.batch.is_over(self) else 0
            if (quiet >= 4 or self.notes.get("stop")) and b" running " in words.read_bytes():
                self.notes["stop"] = False
                self.engine.terminate()
                break
            if time.monotonic() > until:
                self.engine.kill()
                self.end()
                raise Stuck(f"the service is not through after {PATIENCE} s")
            time.sleep(TICK)
        code = self.end()
        if not self.sink.wait_until_hung_up(2):
            raise Stuck("a connection is left open")
        return code, log

    def recover(self, verb):
        """Starts the engine until nothing is left or due."""
        self.batch.after_kill(self)
        if verb == "run":
            code, _ = self.serve("run")
            if code != 0:
                raise Stuck(f"the service ended with {code}")
        self.drain_until_empty()
        if self.make_proofs_old():
            self.serve("drain")

    def make_proofs_old(self):
        """What a proof of the storage left that was killed goes when an engine starts and finds it old. Counts it."""
        proofs = [path for folder in {self.tree, self.pickup} for path in folder.rglob(".MAILROOT-PROBE-*")]
        for path in proofs:
            os.utime(path, (0, 0))
        self.notes["proofs"] = len(proofs)
        return bool(proofs)

    def drain_until_empty(self):
        until = time.monotonic() + PATIENCE
        while True:
            self.batch.meanwhile(self)
            code, _ = self.serve("drain")
            if code in (0, 65) and self.is_quiet():
                return
            if code not in (0, 65, 75):
                raise Stuck(f"a drain ended with {code}")
            if time.monotonic() > until:
                raise Stuck(f"after {PATIENCE} s of drains there is still something in Queue or Pickup")
            time.sleep(0.02)


def play(place, kills, recovery, control=None):
    """`kills`: N:P for the first engine, and for those that follow it. `control`: a lie of the disk to the former."""
    began = time.monotonic()
    played = Played(place, [], [])
    try:
        place.build()
        verbs = [place.batch.mode, *([recovery] * (len(kills) - 1))]
        for number, (verb, kill) in enumerate(zip(verbs, kills)):
            if number:
                place.batch.after_kill(place)
            code, log = place.serve(verb, kill, control)
            played.logs.append(read_log(log))
            played.killed.append(code == -signal.SIGKILL)
            if code not in (0, 65, 75, -signal.SIGKILL):
                raise Stuck(f"the engine ended with {code}")
        place.recover(recovery)
    except Stuck as stuck:
        played.stuck = str(stuck)
    played.seconds = time.monotonic() - began
    return played


def names(folder):
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


__all__ = ["Path", "Place", "Played", "Stuck", "play"]
