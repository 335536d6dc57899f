"""Plays one case and judges it.

Mail goes before the trouble, during it and after it; then the service is told to stop, where the case says so in the
middle of the trouble, and started again without it. Nothing is believed that is not seen: in Drop, in Badmail, at the
hosts, in the log, in /proc.
"""

import shutil
import time
from dataclasses import dataclass, field

from .engine import Engine, complaints, panics
from .hosts import Host, Names
from .letters import ENDS, Found, Letter

# What holds for every case.
RECOVERY = 10.0  # seconds after the trouble's end until all mail that can go has gone
STOP = 15.0
AT_ONCE = 5.0  # beyond the time that a trouble lasts at least: machines that test are busy
BUSY = 5.0  # per cent of a core
KINDS, TIMES = 3, 4  # lines about one trouble: so many kinds, each so often (a trouble here lasts some seconds)

SETTINGS = """[server]
hostname = "local.test"
[domains]
default = "local.test"
[pickup]
poll = "100ms"
quiet = "20ms"
settle = "200ms"
[delivery]
port = {port}
tls = "off"
retry = ["1s"]
delay_notice = "0"
connect_timeout = "2s"
timeout = "{timeout}"
{delivery}
[drop]
retry = ["1s"]
delay_notice = "0"
[dns]
servers = ["127.0.0.1:{dns}"]
[cluster]
heartbeat = "500ms"
lease = "4s"
[log]
format = "json"
"""
REMOTE = '[[remote]]\nname = "{name}"\nsmart_host = "[127.0.0.1]:{port}"\n'


@dataclass
class Result:
    name: str
    faults: list = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    again: int = 0  # sent twice by SMTP: allowed where an answer was lost
    said: dict = field(default_factory=dict)
    cpu: float = 0.0
    recovery: float | None = None
    stop: float | None = None
    troubles: int = 1
    skipped: str = ""
    folder: object = None


class World:
    """The place of one case."""

    def __init__(self, folder, program, library, network, case):
        self.folder, self.program, self.library, self.case = folder, program, library, case
        self.tree = folder / "tree"
        self.tree.mkdir(parents=True)
        self.when, self.hits, self.clock = folder / "when", folder / "hits", folder / "clock"
        self.good = Host(network)
        self.bad = Host(network, case.bad)
        self.down = Host(network, "refused")
        self.names = Names(network, case.names)
        self.letters, self.mounted = [], []
        read = folder / "read" if case.reads_drop else None
        if read:
            read.mkdir()
        self.found = Found(self.tree, [self.good, self.bad, self.down], read)
        remotes = [("good.test", self.good), ("bad.test", self.bad), ("down.test", self.down)]
        text = SETTINGS.format(port=self.good.port, dns=self.names.port, timeout=case.timeout, delivery=case.delivery)
        text += case.settings + "".join(REMOTE.format(name=name, port=host.port) for name, host in remotes)
        (self.tree / "mailroot.toml").write_text(text)
        self.pickup = self.tree / "Pickup"

    def start(self, with_trouble=True):
        environment = {}
        if with_trouble and self.library and self.case.preloaded:
            ready = self.folder / "ready"
            environment = {"LD_PRELOAD": str(self.library), "FAULTS_ROOT": str(self.tree), "FAULTS_WHEN": str(self.when),
                           "FAULTS_HITS": str(self.hits), "FAULTS_READY": str(ready), "FAULTS_CLOCK": str(self.clock)}
        engine = Engine(self.program, self.tree, self.folder / "log", environment)
        return engine if engine.is_up() else None

    def rules(self, rules):
        """Puts rules in force, which begin to count; nothing: ends them."""
        if rules:
            new = self.folder / "when.new"
            new.write_text(rules)
            new.rename(self.when)
        else:
            self.when.unlink(missing_ok=True)

    def letters_of(self, when, kinds):
        """Letters under names that Pickup ignores, to be shown at once."""
        new = [Letter(f"{when}-{number}-{kind}", kind) for number, kind in enumerate(kinds)]
        for letter in new:
            try:
                letter.hide(self.pickup)
            except OSError:
                pass
        return new

    def put(self, letters):
        """Gives them to mailroot; what cannot be put now (the folder is away) is put later."""
        for letter in letters:
            try:
                if not letter.hidden:
                    letter.hide(self.pickup)
                letter.show(self.pickup)
            except OSError:
                continue
        self.letters += letters

    def is_done(self):
        waiting = sum(1 for letter in self.letters if ENDS[letter.kind] == ["queue"])
        found = self.found.look()
        return (not found.missing(self.letters) and found.in_queue == waiting
                and not any(path.name.endswith(".eml") for path in found.files(self.pickup)))

    def until_done(self, patience):
        """The seconds until all mail has ended, None when it has not."""
        began = time.monotonic()
        while not self.is_done():
            if time.monotonic() - began > patience:
                return None
            for letter in self.letters:
                if not letter.put:
                    try:
                        letter.hide(self.pickup)
                        letter.show(self.pickup)
                    except OSError:
                        pass
            time.sleep(0.1)
        return time.monotonic() - began

    def close(self):
        for host in (self.good, self.bad, self.down, self.names):
            host.close()


def play(case, folder, program, library, network):
    world = World(folder, program, library, network, case)
    result = Result(case.name, folder=folder)
    engine = None
    try:
        case.prepare(world)
        engine = world.start()
        if engine is None:
            result.faults.append("it did not start")
            return result
        engine = case.scenes(case, world, engine, result)
        judge(case, world, result)
    finally:
        world.rules("")
        if engine:
            engine.kill()
        case.clean(world)
        world.close()
        if not result.faults:
            shutil.rmtree(folder, ignore_errors=True)
    return result


def whole_story(case, world, engine, result):
    """Before, during, after; a stop; the end without trouble. The engine that runs at the end, if any."""
    world.put(world.letters_of("before", case.before))
    if world.until_done(15) is None:
        result.faults.append(f"before the trouble: {world.found.missing(world.letters)}")
        return engine
    during(case, world, engine, result, world.letters_of("during", case.during))
    began = time.monotonic()
    case.end(world)
    world.put(world.letters_of("after", case.after))
    took = world.until_done(case.patience)
    result.recovery = None if took is None else time.monotonic() - began
    if took is None:
        result.faults.append(f"not within {case.patience:.0f} s of the trouble's end: {some(world.found.missing(world.letters))}")
    elif result.recovery > RECOVERY:
        result.faults.append(f"recovered only after {result.recovery:.1f} s")
    if not engine.is_alive():
        result.faults.append(f"it has ended by itself with {engine.process.poll()}")
        return engine
    if case.stop_amid:
        new = world.letters_of("amid", case.during)
        case.begin(world)
        world.put(new)
        time.sleep(0.7)
    stop(engine, result)
    case.end(world)
    if case.stop_amid or took is None:
        engine = world.start(with_trouble=False)
        if engine is None:
            result.faults.append("it did not start again")
        elif world.until_done(case.patience) is None:
            result.faults.append(f"not even after a new start: {some(world.found.missing(world.letters))}")
    return engine


def during(case, world, engine, result, letters):
    """The time of the trouble: who goes on, what is said, what it costs."""
    from_line = engine.place()
    case.begin(world)
    world.put(letters)
    time.sleep(min(1.0, case.lasts / 2))
    began, used = time.monotonic(), engine.cpu()
    while time.monotonic() - began < case.lasts - 1.0:
        time.sleep(0.1)
        world.found.look()
    result.cpu = 100 * (engine.cpu() - used) / (time.monotonic() - began)
    result.said = complaints(engine.text(from_line, engine.place()))
    # Where nothing is said, nothing may wait.
    others = [letter for letter in letters if letter.kind in case.goes_on or (case.must_say and not result.said)]
    until = time.monotonic() + AT_ONCE
    while world.found.look().missing(others) and time.monotonic() < until:
        time.sleep(0.1)
    result.said = complaints(engine.text(from_line, engine.place()))
    late = [letter for letter in letters if world.found.look().missing([letter])]
    if result.cpu >= BUSY:
        result.faults.append(f"busy: {result.cpu:.1f} % of a core")
    flood(result, 1)
    if late and not result.said and case.must_say:
        result.faults.append(f"{len(late)} letters wait and the log has no word about why")
    held_up = [letter.name for letter in late if letter.kind in case.goes_on]
    if held_up:
        result.faults.append(f"not part of the trouble, but held up by it: {some(held_up)}")


def flood(result, troubles):
    said = result.said
    if len(said) > KINDS + troubles - 1 or any(count > TIMES * troubles for count in said.values()):
        most = sorted(said.items(), key=lambda one: -one[1])
        result.faults.append(f"{sum(said.values())} lines of {len(said)} kinds: {some(most)}")


def stop(engine, result):
    result.stop, code = engine.stop(STOP + 5)
    if code is None or result.stop > STOP:
        result.faults.append(f"SIGTERM was not answered within {STOP:.0f} s")
    elif code != 0:
        result.faults.append(f"it ended with {code}")


def one_by_one(case, world, engine, result):
    """Many troubles of one call each, one after the other, in one process."""
    world.put(world.letters_of("before", case.before))
    if world.until_done(15) is None:
        result.faults.append(f"before the trouble: {world.found.missing(world.letters)}")
        return engine
    result.troubles, result.recovery = len(case.rules), 0.0
    from_line, began, used = engine.place(), time.monotonic(), engine.cpu()
    for number, rules in enumerate(case.rules):
        new = world.letters_of(f"n{number}", case.during)
        world.rules(rules)
        world.put(new)
        took = world.until_done(case.patience)
        world.rules("")
        result.recovery = max(result.recovery, took or case.patience)
        if took is None or took > RECOVERY:
            result.faults.append(f"{rules}: {'late' if took else some(world.found.missing(world.letters))}")
        if took is None:
            break  # what comes after it would only show the same
        if not engine.is_alive():
            result.faults.append(f"{rules}: it has ended by itself with {engine.process.poll()}")
            return engine
    result.cpu = 100 * (engine.cpu() - used) / (time.monotonic() - began)
    result.said = complaints(engine.text(from_line, engine.place()))
    flood(result, result.troubles)
    stop(engine, result)
    if world.found.missing(world.letters):
        engine = world.start(with_trouble=False)
        if engine is None or world.until_done(case.patience) is None:
            result.faults.append(f"not even after a new start: {some(world.found.missing(world.letters))}")
    return engine


def judge(case, world, result):
    found = world.found.look()
    missing, doubled = found.missing(world.letters), found.doubled(world.letters)
    waiting = sum(1 for letter in world.letters if ENDS[letter.kind] == ["queue"])
    if found.in_queue is not None and found.in_queue != waiting and not missing:
        result.faults.append(f"{found.in_queue} messages in Queue, not {waiting}")
    result.lost = len(missing) + max(0, waiting - (found.in_queue or 0))
    result.doubled, result.again = len(doubled), found.twice_sent(world.letters)
    if result.lost:
        result.faults.append(f"lost: {some(missing)}")
    if doubled:
        result.faults.append(f"doubled: {some(doubled)}")
    if found.broken():
        result.faults.append(f"damaged: {some(sorted(found.broken()))}")
    log = (world.folder / "log").read_bytes()
    result.faults += [f"a panic: {line}" for line in panics(log)[:2]]
    if case.preloaded and not (world.folder / "ready").exists():
        result.faults.append("the library was not loaded: nothing was tried")
    elif case.must_hit and not (world.hits.exists() and world.hits.stat().st_size):
        result.faults.append("no call met the rule: nothing was tried")
    result.faults += case.further(world)


def some(things):
    things = list(things)
    rest = f" and {len(things) - 4} more" if len(things) > 4 else ""
    return ", ".join(str(one) for one in things[:4]) + rest

