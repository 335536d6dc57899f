"""Workers: each a process with mail hosts of its own, that plays one point after the other."""

import multiprocessing
import os
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from .batches import BATCHES
from .judge import judge
from .play import Place, play
from .sink import Sink

MOST_KEPT = 12


@dataclass
class Task:
    batch: str
    kills: list
    recovery: str
    control: str = ""
    measure: bool = False
    keep: bool = False
    number: int = 0

    @property
    def point(self):
        return f"{self.batch}:{'+'.join(self.kills)}"


@dataclass
class Done:
    task: Task
    killed: list
    hit: str
    faults: list
    twice: list
    waits: list
    seconds: float
    calls: list = field(default_factory=list)
    kept: str = ""
    lists: dict = field(default_factory=dict)
    at_once: int = 0


class Pool:
    def __init__(self, workers, tools, folder, kept):
        self.tools, self.folder = tools, folder
        self.tasks, self.results = multiprocessing.Queue(), multiprocessing.Queue()
        self.workers = [multiprocessing.Process(target=work, args=(number, self.tasks, self.results, tools, folder, kept), daemon=True)
                        for number in range(workers)]
        for worker in self.workers:
            worker.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in self.workers:
            self.tasks.put(None)
        for worker in self.workers:
            worker.join(30)
            if worker.is_alive():
                worker.terminate()

    def all(self, tasks, deadline=None):
        """What became of the tasks, in their order. After the deadline no further one is begun."""
        done, waiting, under_way = {}, list(enumerate(tasks)), 0
        while waiting or under_way:
            while waiting and under_way < 2 * len(self.workers) and not (deadline and time.monotonic() > deadline):
                number, task = waiting.pop(0)
                task.number = number
                self.tasks.put(task)
                under_way += 1
            if not under_way:
                break
            result = self.results.get(timeout=120)
            under_way -= 1
            if isinstance(result, str):
                raise OSError(f"a worker failed: {result}")
            done[result.task.number] = result
        return [done[number] for number in sorted(done)]


def work(number, tasks, results, tools, folder, kept):
    sink = Sink()
    batches = {batch.name: batch for batch in BATCHES}
    count = 0
    while (task := tasks.get()) is not None:
        count += 1
        root = folder / f"w{number}-{count}"
        root.mkdir()
        place = Place(tools, batches[task.batch], sink, root, tools.other)
        try:
            results.put(one(place, task, folder, kept))
        except Exception:  # the sweep ends, and says why
            results.put(traceback.format_exc())
        finally:
            place.remove()
    sink.close()


def one(place, task, folder, kept):
    played = play(place, task.kills, task.recovery, task.control)
    verdict = judge(played)
    done = Done(task, played.killed, verdict.hit, verdict.faults, verdict.twice, verdict.waits, played.seconds,
                at_once=verdict.at_once)
    done.lists = {kind: bool(getattr(verdict, kind)) for kind in
                  ("lost", "damaged", "wrong", "stuck", "left", "twice_here", "forbidden", "waits", "twice")}
    if task.measure:
        done.calls = [(call.number, call.phases, call.shown(str(place.tree)))
                      for call in sorted(played.logs[0], key=lambda call: call.number)] if played.logs else []
    if not task.control:
        for name in verdict.waits:
            shutil.copy2(place.tree / name, folder / "remains")
    if task.keep or (done.faults and not task.control and len(os.listdir(kept)) < MOST_KEPT):
        keep(place, done, kept)
    return done


def keep(place, done, kept):
    target = Path(tempfile.mkdtemp(prefix=done.task.point + "-", dir=kept)) / "tree"
    done.kept = str(target)
    shutil.copytree(place.root, target, symlinks=True)
    for number, taken in enumerate(place.sink.accepted):
        (target / f"taken-{number}.eml").write_bytes(taken.content)
    (target / "faults.txt").write_text("".join(f"{line}\n" for line in [done.hit, *done.faults, *map(str, done.twice)]))
