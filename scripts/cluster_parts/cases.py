"""The cases: what is done to the nodes while the messages are on their way, and what is measured."""

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

from .judge import MESSAGE_FILE, Record, Verdict, claims, names, sent_again
from .letters import Feeder, Letter
from .machine import end, start, wait
from .nodes import SETTINGS, Node, double_claims, foreign_steps, ulid_of
from .pulse import Pulse, returned

HERE = Path(__file__).resolve().parent


DRAINS = 4  # at a time, at most


class Times:
    """How long everything takes, in the short and in the full form."""

    def __init__(self, options):
        quick = options.quick
        self.messages = options.messages or (1000 if quick else 10000)
        self.heartbeat, self.lease = (0.5, 6.0) if quick else (2.0, 15.0)
        self.poll = 2.0
        self.kills = 20.0 if quick else options.minutes * 60
        self.cut = 20.0 if quick else 60.0
        self.patience = 120.0 if quick else 300.0
        self.short = quick


class Stage:
    """One mailroot, its nodes, its host and its letters."""

    def __init__(self, scene, label, machines, locks, own_boots, delay=0.02, messages=None):
        self.scene, self.times, self.label = scene, scene.times, label
        self.folder = scene.folder / "cases" / label
        self.folder.mkdir(parents=True)
        self.root = scene.storage.view / label
        tree = scene.storage.mount_point / label
        self.record = Record(self.folder / "sink.record")
        self.sink = subprocess.Popen([sys.executable, "-S", str(HERE / "sink.py"), scene.network.address, str(self.record.path), "--delay", str(delay)],
                                     stdout=subprocess.PIPE, text=True, start_new_session=True)
        port = int(self.sink.stdout.readline())
        for name in ("Pickup", "Queue", "Drop", "Badmail", "Status/nodes"):
            (self.root / name).mkdir(parents=True)
        (self.root / "Pickup").chmod(0o1777)
        (self.root / "mailroot.toml").write_text(SETTINGS.format(
            sink=scene.network.address, port=port, heartbeat=f"{self.times.heartbeat * 1000:.0f}ms", lease=f"{self.times.lease * 1000:.0f}ms"))
        env = {"LD_PRELOAD": str(scene.faults), "FAULTS_ROOT": str(tree), "AUDIT": "1"}
        if not locks:
            env["FAULTS_FAIL"] = "flock@=ENOLCK"
        for machine in machines:
            machine.boot(scene.folder, own_boots)
        self.nodes = [Node(machine, scene.program, tree, self.folder / f"{machine.name}.log", env) for machine in machines]
        self.tree, self.env, self.own_boots = tree, env, own_boots
        self.letters = [Letter(number) for number in range(messages or self.times.messages)]
        self.feeder = None
        self.pulse = Pulse(self.nodes[-1].machine.path(tree))  # the last node is one that nothing is done to
        self.figures = {}
        self.faults = []

    def feed(self, rate=None):
        self.feeder = Feeder(self.root / "Pickup", self.letters, rate)
        self.feeder.start()
        if rate is None:
            while self.feeder.is_alive():
                self.feeder.join(1)

    def start(self):
        self.pulse.start()
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.ready(self.root)

    @property
    def addresses(self):
        return [node.machine.address for node in self.nodes]

    def expect(self, holds, words):
        if not holds:
            self.faults.append(words)

    def until_complete(self, patience=None):
        """Waits until nothing is missing or left; says what is."""
        until = time.monotonic() + (patience or self.times.patience)
        last, since = None, time.monotonic()
        while True:
            if self.feeder.is_alive():
                until = time.monotonic() + (patience or self.times.patience)  # they are not all there yet
            with contextlib.suppress(OSError):
                verdict = Verdict(self.root, self.record.look(), self.letters, self.feeder)
                if verdict.is_complete() and not self.feeder.is_alive():
                    break
                state = (len(verdict.lost), len(verdict.left))
                if state != last:
                    last, since = state, time.monotonic()
                if time.monotonic() > until and time.monotonic() - since > 30 or time.monotonic() > until + 300:
                    break
            time.sleep(1)
        time.sleep(2)  # what comes late, comes doubled
        return Verdict(self.root, self.record.look(), self.letters, self.feeder)

    def stop_nodes(self):
        for node in self.nodes:
            self.expect(node.is_up(), f"{node.machine.name} has ended by itself with {node.process.poll()}")
        codes = [node.stop() for node in self.nodes]
        self.expect(all(code == 0 for code in codes), f"exit codes at the end: {codes}")

    def conclude(self, extra_allowed=0):
        """The figures that every case has, and the bars that hold for all."""
        verdict = self.until_complete()
        self.pulse.stop()
        self.stop_nodes()
        verdict = Verdict(self.root, self.record.look(), self.letters, self.feeder)
        self.figures.update(
            messages=self.feeder.put, lost=len(verdict.lost), smtp=len(verdict.doubled), local=len(verdict.doubled_local),
            share=" ".join(f"{share * 100:.0f}" for share in self.record.share(self.addresses)))
        undead = sum(len(node.undead) for node in self.nodes)
        self.expect(not undead, f"killed, and not gone after a second: {undead} (the storage did not answer)")
        twice = double_claims(path for path in self.folder.glob("*.steps*"))
        self.expect(not twice, f"{len(twice)} files were claimed twice: {list(twice.items())[:2]}")
        self.expect(not verdict.lost, f"lost: {verdict.lost[:3]}")
        extra = sent_again(verdict.doubled)
        self.expect(extra <= extra_allowed, f"{extra} messages sent again by SMTP, {extra_allowed} allowed: {verdict.doubled[:3]}")
        self.expect(not verdict.doubled_local, f"doubled in Drop or Badmail: {verdict.doubled_local[:3]}")
        self.expect(not verdict.strange, f"strange: {verdict.strange[:3]}")
        self.expect(not verdict.left, f"left in Pickup or Queue: {verdict.left[:3]} ({len(verdict.left)})")
        self.expect(not verdict.temporary, f"TMP files left: {verdict.temporary[:3]} ({len(verdict.temporary)})")
        self.figures["remains"] = len(verdict.remains)
        panics = [line for node in self.nodes for line in node.complaints() if "panicked" in line]
        self.expect(not panics, f"a panic: {panics[:1]}")
        return verdict

    def end(self):
        self.pulse.halt.set()
        if self.feeder:
            self.feeder.halt.set()
        for node in self.nodes:
            with contextlib.suppress(OSError):
                node.end()
        self.sink.kill()
        self.sink.wait()
        if self.feeder:
            self.feeder.join(5)


class Takeovers(threading.Thread):
    """Looks at Queue: since when a node that has ended holds nothing any more."""

    def __init__(self, root, every):
        super().__init__(daemon=True)
        self.root, self.every = root, every
        self.waiting, self.took, self.claims, self.hits = {}, [], 0, 0  # took: (from, to)
        self.halt = threading.Event()

    def ended(self, name, at):
        """A node has ended: what it holds now, others must take."""
        held = claims(self.root).get(name, [])
        self.claims += len(held)
        self.hits += bool(held)
        if held:
            self.waiting[name] = at

    def run(self):
        while not self.halt.wait(self.every):
            if not self.waiting:
                continue
            with contextlib.suppress(OSError):
                now, held = time.monotonic(), claims(self.root)
                for name in [name for name in list(self.waiting) if not held.get(name)]:
                    self.took.append((self.waiting.pop(name), now))


def no_fault(stage):
    """Everything lies in Pickup when all nodes start."""
    stage.feed()
    began = time.monotonic()
    stage.start()
    stage.conclude()
    last = max((time for time, *_ in stage.record.got), default=began)
    stage.figures["seconds"] = f"{last - began:.0f}"
    least = min(stage.record.share(stage.addresses))
    stage.expect(least >= 0.15, f"the share of one node is {least * 100:.0f} %")


def killed(stage, rotating=False):
    """A node is killed when it has worked for 2 s, and started again: always the first, or one after the other."""
    times = stage.times
    stage.start()
    rate = len(stage.letters) / times.kills
    stage.feed(rate)
    watch = Takeovers(stage.root, 0.2 if stage.scene.storage.name == "local" else 0.5)
    watch.start()
    in_flight, kills, pauses = 0, [], []
    until = time.monotonic() + times.kills
    turn = 0
    while time.monotonic() < until:
        node = stage.nodes[turn % len(stage.nodes) if rotating else 0]
        turn += 1
        # On slow storage it takes a while until it works at all: killed before that, it would show nothing.
        name = node.ready(stage.root)
        time.sleep(2)
        in_flight += stage.record.look().in_flight(node.machine.address)
        at = time.monotonic()
        node.kill()
        if name:
            watch.ended(name, at)
        kills.append((at, node.machine.address))
        node.start()
    verdict = stage.conclude(extra_allowed=in_flight)
    watch.halt.set()
    watch.join(5)
    others = lambda address: [one for one in stage.addresses if one != address]  # noqa: E731
    ends = kills[-1][0]
    storage = stage.pulse.longest
    for at, address in kills:
        if at + 5 < ends:
            longest = stage.record.longest_pause(others(address), at, at + 5)
            pauses.append((longest - storage(at, at + 5), longest))
    took = [(to - at - storage(at, to), to - at) for at, to in watch.took]
    # What the storage itself stood still for is not ours.
    (own_pause, pause), (own_took, slowest) = (max(times, default=(0.0, 0.0)) for times in (pauses, took))
    stage.figures.update(kills=len(kills), hits=watch.hits, extra=f"{len(verdict.doubled) / len(kills):.2f}", flight=f"{in_flight / len(kills):.1f}",
                         pause=f"{pause:.1f}", took=f"{slowest:.1f}", storage=f"{storage(kills[0][0], ends + 5):.1f}")
    if not rotating:
        stage.expect(own_pause <= times.poll + 1.0 + 1 / rate, f"the others paused for {pause:.1f} s after a kill, {own_pause:.1f} s of that by us")
    bound = times.lease + 3 if stage.own_boots else 5.0
    # Where every node is killed, and the storage is slow, those who take over do not live to the end of it.
    unbound = rotating and (stage.own_boots or stage.scene.storage.name != "local")
    stage.expect(own_took <= bound or unbound, f"a takeover took {slowest:.1f} s, {own_took:.1f} s of that by us")
    stage.expect(not watch.waiting, f"never taken over: {list(watch.waiting)[:3]}")


def killed_in_turn(stage):
    """Every node is killed, one after the other, every 2 s."""
    killed(stage, rotating=True)


def silenced(stage, silence, wake, lasting, measure):
    """A node falls silent in the middle of its work and comes back: it may touch nothing that is not its own by then."""
    times = stage.times
    stage.start()
    stage.feed(rate=len(stage.letters) / (lasting + 20))
    wait("the first messages", 60, lambda: len(stage.record.look().got) > 50)
    time.sleep(3)
    victim = stage.nodes[0]
    name = victim.name(stage.root)
    flight = stage.record.look().in_flight(victim.machine.address)
    silence(victim)
    at = time.monotonic()
    offset = victim.audit.stat().st_size
    time.sleep(0.3)
    held = {ulid_of(file) for file in claims(stage.root).get(name, [])}
    took = None
    while time.monotonic() < at + lasting:
        time.sleep(0.5)
        if took is None and not claims(stage.root).get(name):
            took = time.monotonic() - at
    queue = [(ulid_of(file), f"@{name}." in file) for file in names(stage.root / "Queue") if MESSAGE_FILE.match(file)]
    still = {ulid for ulid, own in queue if own}
    others = (held | {ulid for ulid, own in queue if not own}) - still
    back = time.monotonic()
    wake(victim)
    flight = max(flight, stage.record.look().in_flight(victim.machine.address))
    stage.conclude(extra_allowed=flight)
    foreign, late = foreign_steps(victim.audit, offset, others)
    pause = stage.record.longest_pause(stage.addresses[1:], at, at + lasting)
    mine = [one for one, node, *_ in stage.record.got if node == victim.machine.address and one > back]
    stage.figures.update(held=len(held), took=f"{took or 0:.1f}", pause=f"{pause:.1f}", foreign=len(foreign), late=late,
                         works_again=f"{mine[0] - back:.1f}" if mine else "-",
                         storage=f"{stage.pulse.longest(at, at + (took or lasting)):.1f}")
    if held:
        storage = stage.pulse.longest(at, at + (took or lasting))
        stage.expect(took is not None and took - storage <= times.lease + measure, f"its {len(held)} claims were not taken over in time ({took})")
    stage.expect(not foreign, f"it touched what was not its own: {foreign[:3]}")
    stage.expect(bool(mine), "it did no more work after it came back")


def frozen(stage):
    """SIGSTOP for three leases, then SIGCONT."""
    silenced(stage, lambda node: node.freeze(), lambda node: node.go_on(), 3 * stage.times.lease, 3.0)


def cut_off(stage):
    """One node's cable is cut and healed."""
    # GlusterFS itself may keep all others waiting for what the lost client had locked, until it misses its pings: the
    # pulse tells.
    silenced(stage, lambda node: node.machine.cut(), lambda node: node.machine.heal(), stage.times.cut, 3.0)


# What a removal takes on the slowest of the storages, s.
REMOVAL = 0.1


def gone(stage, how):
    """The storage goes away for all, and comes back."""
    times = stage.times
    stage.start()
    count = len(stage.letters)
    # Half of them wait in Pickup when it goes: there must be something to be fast with.
    rate = max(20.0, count / 60)
    stage.feed(rate)
    wait("the first messages", 60, lambda: len(stage.record.look().got) > 50)
    before = time.monotonic()
    while time.monotonic() < before + 8:
        time.sleep(0.2)
    before = stage.record.look().rate(before, time.monotonic())
    stage.feeder.rest.set()
    time.sleep(0.5)
    flight = sum(stage.record.look().in_flight(address) for address in stage.addresses)
    lost_at = time.monotonic()
    stage.scene.storage.lose(how)
    try:
        time.sleep(times.cut)
        up = [node.is_up() for node in stage.nodes]
    finally:
        stage.scene.storage.find(how)
    back = time.monotonic()
    # Each machine has a way of its own to the storage, which may need a while to find it again: that is not ours.
    storage = returned([node.machine.path(stage.tree) for node in stage.nodes], back, 90.0)
    stage.feeder.rest.clear()
    stage.expect(all(up), "a node has ended while the storage was gone")
    # What the host had taken just before was not removed yet, and nobody could note that it was delivered.
    flight += sum(1 for one, *_ in stage.record.got if lost_at - REMOVAL < one < lost_at)
    stage.conclude(extra_allowed=flight)
    times_after = sorted(one for one, *_ in stage.record.got if one > back)
    fast = next((start - back for start in [back + step * 0.5 for step in range(240)]
                 if stage.record.rate(start, start + 4) >= 0.5 * before), None)
    meanwhile = sum(1 for one, *_ in stage.record.got if lost_at + times.lease / 2 + 1 < one < back)
    stage.figures.update(first=f"{times_after[0] - back:.1f}" if times_after else "-", fast="-" if fast is None else f"{fast:.1f}", meanwhile=meanwhile,
                         storage="-" if storage is None else f"{storage:.1f}")
    stage.expect(storage is not None, "the storage did not come back")
    stage.expect(fast is not None and fast - (storage or 0) <= 10, f"full speed after {fast} s")


def drained(stage):
    """A `drain` every second beside the running services."""
    stage.start()
    stage.feed(rate=len(stage.letters) / max(20.0, len(stage.letters) / 60))
    codes, running = [], []
    machine = stage.nodes[-1].machine
    env = {key: value for key, value in stage.env.items() if key != "AUDIT"}
    env["FAULTS_LOG"] = str(stage.folder / "drain.steps")
    while stage.feeder.is_alive():
        if len(running) < DRAINS:
            running.append(start(*machine.inside(stage.scene.program, "drain", stage.tree), log=stage.folder / "drain.log", env=env))
        for process in [one for one in running if one.poll() is not None]:
            codes.append(process.returncode)
            running.remove(process)
        time.sleep(1)
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(90)
        codes.append(process.returncode)
        end(process)
    stage.conclude()
    stage.figures["drains"] = len(codes)
    strange = [code for code in codes if code not in (0, 65, 75)]
    stage.expect(not strange, f"drain ended with {strange[:3]}")
