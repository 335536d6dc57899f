"""The promise of the listener: what got 250 lies in Pickup, whole; of what did not there is no trace.

`mailroot listen` is killed at every call from its first greeting on, while three sessions send by DATA and by BDAT, two of
them at the same moment. Then Pickup is held against what the senders had read, and a drain must find each message there
once. Twice: with files that have no name until they are whole, and as on a storage that has no such files.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .calls import read_log, where_it_ended
from .play import names

SETTINGS = """[server]
hostname = "node.here.test"
[domains]
default = "here.test"
[listener]
enabled = true
address = "127.0.0.1"
port = 0
"""
PATIENCE = 15
TICK = 0.003
# As on a storage that knows no files without a name: the first of them is refused.
WITH_NAMES = "open@/Pickup=EOPNOTSUPP:1:1"
WAYS = {"listener": "", "listener-names": WITH_NAMES}
# What a lying disk does, in which way, and what the judge must say of it.
CONTROLS = {"content": ("listener", "write@/Pickup=LIE", "damaged"), "names": ("listener", "link@/Pickup=LIE", "lost"),
            "traces": ("listener-names", "unlink@/.incoming-=LIE", "left")}
KINDS = ("lost", "damaged", "left", "twice", "stuck")
MOST_AHEAD = 50
AGAIN = 4  # the threads take turns as they like: a run may have ended before


@dataclass
class Message:
    """`ended`: all of it has been sent. `ident`: what the 250 said; `heard`: when (monotonic clock)."""

    key: str
    content: bytes
    ended: bool = False
    ident: str = ""
    heard: float = 0.0


class Talk:
    """One session. Once the listener has gone, nothing is said or heard any more."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        self.is_gone = self.socket.connect_ex(("127.0.0.1", port)) != 0
        self.file = self.socket.makefile("rb")
        self.reply()
        self.say(b"EHLO client.test")

    def send(self, data):
        try:
            if not self.is_gone:
                self.socket.sendall(data)
        except ConnectionError:
            self.is_gone = True

    def reply(self):
        """The last line of a reply; nothing when there is none."""
        try:
            while not self.is_gone:
                line = self.file.readline()
                self.is_gone = not line.endswith(b"\r\n")
                if line[3:4] != b"-":
                    return b"" if self.is_gone else line
        except ConnectionError:
            self.is_gone = True
        return b""

    def say(self, line):
        self.send(line + b"\r\n")
        return self.reply()

    def chunk(self, data):
        self.send(b"BDAT %d\r\n%s" % (len(data), data))
        self.reply()

    def begin(self):
        self.say(b"MAIL FROM:<app@there.test>")
        self.say(b"RCPT TO:<a@here.test>")

    def end(self, message, last):
        """The last bytes; the reply is read by `hear`."""
        if not self.is_gone:
            message.ended = True
            self.send(last)

    def hear(self, message):
        reply = self.reply()
        message.heard = time.monotonic()
        if reply.startswith(b"250 2.6.0 <"):
            message.ident = reply[11:].partition(b"@")[0].decode()
        elif reply:
            raise OSError(f"{message.key} got {reply!r}")

    def close(self):
        self.file.close()
        self.socket.close()


def letter(key, lines):
    body = b"".join(b".line %d of %s\r\n" % (n, key.encode()) for n in range(lines))
    return Message(key, b"X-Key: %s\r\nSubject: %s\r\n\r\n%sthe end of %s\r\n" % (*[key.encode()] * 2, body, key.encode()))


def letters():
    return [letter("first", 3), letter("second", 6000), letter("third", 40), letter("fourth", 1), letter("given-up", 2000)]


def port_of(listener, words):
    """Waits until it listens. `words`: the file with what it says."""
    until = time.monotonic() + PATIENCE
    while True:
        said = words.read_text()
        found = said.partition("listening address=127.0.0.1:")[2].split(" ")[0]
        if found and said.endswith("\n"):
            return int(found)
        if time.monotonic() > until or listener.poll() is not None:
            raise OSError(f"the listener does not listen: {said}")
        time.sleep(TICK)


def send(port):
    """All that is sent, in the same order in each run; what became of it."""
    messages = first, second, third, fourth, given_up = letters()
    talks = a, b, c = [Talk(port) for _ in range(3)]
    for talk in talks:
        talk.begin()
    # two that end at the same moment: they share a sync of the folder
    for talk, message in ((a, first), (b, second)):
        talk.say(b"DATA")
        talk.send(dotted(message)[:-10])
    for talk, message in ((a, first), (b, second)):
        talk.end(message, dotted(message)[-10:])
    for talk, message in ((a, first), (b, second)):
        talk.hear(message)
    half = len(third.content) // 2
    c.chunk(third.content[:half])
    # the next begin while the third is half there
    a.begin()
    b.begin()
    b.chunk(given_up.content[: len(given_up.content) // 2])
    c.end(third, b"BDAT %d LAST\r\n%s" % (len(third.content) - half, third.content[half:]))
    c.hear(third)
    b.say(b"RSET")
    a.say(b"DATA")
    a.end(fourth, dotted(fourth))
    a.hear(fourth)
    for talk in talks:
        talk.say(b"QUIT")
        talk.close()
    return messages


def crowd(port, sessions=8, each=3, lines=lambda _, n: 10 * n):
    """Many at the same time, as they like; what became of it. `lines`: of the nth message of a session."""
    def one(number):
        talk, messages = Talk(port), [letter(f"crowd-{number}-{n}", lines(number, n)) for n in range(each)]
        for message in messages:
            talk.begin()
            talk.say(b"DATA")
            talk.end(message, dotted(message))
            talk.hear(message)
        talk.close()
        return messages

    with ThreadPoolExecutor(sessions) as pool:
        return [message for messages in pool.map(one, range(sessions)) for message in messages]


def dotted(message):
    return message.content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


@dataclass
class Done:
    """What became of one point: messages that were promised, and messages that lay there though no 250 was read."""

    point: str
    killed: bool = False
    hit: str = ""
    faults: list = field(default_factory=list)
    promised: int = 0
    unheard: int = 0
    calls: list = field(default_factory=list)

    def add(self, kind, words):
        self.faults.append((kind, words))


class Scene:
    """The tree of one point."""

    def __init__(self, tools, root, rules):
        self.tools, self.root, self.tree = tools, root, root / "mailroot"
        self.pickup, self.rules = self.tree / "Pickup", rules
        self.listener = None

    def play(self, done, kill):
        (self.tree / "Pickup").mkdir(parents=True)
        (self.tree / "mailroot.toml").write_text(SETTINGS)
        log, when = self.root / "calls", self.root / "when"
        environment = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(self.tools.library), "FAULTS_ROOT": str(self.tree),
                       "FAULTS_LOG": str(log), "FAULTS_WHO": "1", "FAULTS_FROM": "tcp", "FAULTS_WHEN": str(when)}
        environment |= {"FAULTS_KILL": kill} if kill else {}
        environment |= {"FAULTS_FAIL": self.rules} if self.rules else {}
        with open(self.root / "words", "wb") as words:
            self.listener = subprocess.Popen([self.tools.program, "listen", self.tree], env=environment, stderr=words,
                                             stdout=words, stdin=subprocess.DEVNULL)
        port = port_of(self.listener, self.root / "words")
        when.touch()  # what the storage lacks is no matter of its proof at the start
        messages = send(port)
        if self.listener.poll() is None and not self.has_gone(messages):
            self.listener.terminate()
        code = self.listener.wait(PATIENCE)
        done.killed = code == -signal.SIGKILL
        if code not in (0, -signal.SIGKILL):
            done.add("stuck", f"the listener ended with {code}")
        done.calls = read_log(log)
        hit = where_it_ended(done.calls)
        done.hit = f"{hit.killed} {hit.shown(str(self.tree))}" if hit else ""
        return messages

    def has_gone(self, messages):
        """A killed process may still be seen for a moment after its sockets have closed."""
        if all(message.ident for message in messages[:-1]):
            return False
        try:
            self.listener.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        return True

    def judge(self, done, messages):
        promised = {message.ident: message for message in messages if message.ident}
        by_key = {message.key.encode(): message for message in messages}
        done.promised = len(promised)
        there = Counter()
        for name in names(self.pickup):
            if name.startswith(".incoming-") and WITH_NAMES in self.rules and done.killed:
                continue  # nobody takes it, and it goes when it is an hour old
            if not name.endswith(".EML"):
                done.add("left", name)
                continue
            file = (self.pickup / name).read_bytes()
            message = by_key.get(file.partition(b"X-Key: ")[2].partition(b"\r\n")[0])
            if message is None or not is_whole(file, message):
                done.add("damaged", f"{name}: {len(file)} bytes")
                continue
            there[message.key] += 1
            if name[:-4] not in promised:
                done.unheard += 1
                if not message.ended:
                    done.add("left", f"{message.key}, though its end was never sent")
        for ident, message in promised.items():
            if not (self.pickup / f"{ident}.EML").exists():
                done.add("lost", f"{message.key}, {ident}")
        for key, count in there.items():
            if count > 1:
                done.add("twice", f"{key}: {count} files")
        return there

    def drain(self, done, there):
        """What lies there is mail like any other: each arrives, once."""
        drained = subprocess.run([self.tools.program, "drain", self.tree], stdin=subprocess.DEVNULL, capture_output=True,
                                 timeout=PATIENCE, env={"PATH": os.environ["PATH"]})
        arrived = Counter()
        for name in names(self.tree / "Drop"):
            file = (self.tree / "Drop" / name).read_bytes()
            arrived[file.partition(b"X-Key: ")[2].partition(b"\r\n")[0].decode()] += 1
        if drained.returncode != 0 or arrived != there:
            done.add("stuck", f"a drain ended with {drained.returncode}; {dict(arrived)} arrived of {dict(there)}")

    def end(self):
        if self.listener and self.listener.poll() is None:
            self.listener.kill()
            self.listener.wait()
        shutil.rmtree(self.root, ignore_errors=True)


def is_whole(file, message):
    """Our leading block and Received field, then what was sent and nothing else."""
    top, _, content = file.partition(b"\r\nX-Key: ")
    lines = top.split(b"\r\n")
    return (b"X-Key: " + content == message.content and lines[:2] == [b"x-sender: <app@there.test>", b"x-receiver: <a@here.test>"]
            and all(line.startswith((b"x-", b"Received: ", b"\t")) for line in lines))


class Reception:
    """All points of all ways."""

    def __init__(self, tools, folder, workers):
        self.tools, self.folder, self.workers = tools, folder, workers
        self.count = 0

    def one(self, way, kill="", control="", keep=None):
        done = Done(f"{way}:{kill}")
        self.count += 1
        root = self.folder / f"reception-{self.count}-{kill.replace(':', '')}-{way}"
        root.mkdir()
        scene = Scene(self.tools, root, ";".join(filter(None, (WAYS[way], control))))
        try:
            there = scene.judge(done, scene.play(done, kill))
            if not done.faults:
                scene.drain(done, there)
        except (OSError, subprocess.TimeoutExpired) as trouble:
            done.add("stuck", str(trouble))
        finally:
            if keep:
                shutil.copytree(root, keep / root.name, dirs_exist_ok=True)
            scene.end()
        return done

    def sweep(self, way):
        """(every point that was hit, faults of runs that were not killed)"""
        phases = defaultdict(set)
        undisturbed = [self.one(way) for _ in range(3)]
        for done in undisturbed:
            if done.promised != 4 or done.unheard:
                done.add("stuck", f"undisturbed, {done.promised} of 4 messages were promised")
            for call in done.calls:
                phases[call.number].update(call.phases)
        hit = []
        points = [f"{number}:{phase}" for number in sorted(phases) for phase in "bma" if phase in phases[number]]
        with ThreadPoolExecutor(self.workers) as pool:
            for _ in range(AGAIN):
                played = list(pool.map(lambda point: self.one(way, point), points))
                hit += [done for done in played if done.killed or done.faults]
                points = [point for point, done in zip(points, played) if not (done.killed or done.faults)]
            # a run may be longer than those that were measured: on until it ends by itself
            for ahead in range(max(phases, default=0) + 1, max(phases, default=0) + MOST_AHEAD):
                played = list(pool.map(lambda phase: self.one(way, f"{ahead}:{phase}"), "ba"))
                hit += [done for done in played if done.killed]
                if not any(done.killed for done in played):
                    break
        return hit, [done for done in undisturbed if done.faults], points

    def controls(self):
        """(name, fault that must be seen, runs, of those with it)"""
        for name, (way, rule, kind) in CONTROLS.items():
            played = [self.one(way, control=rule) for _ in range(2)]
            yield name, kind, len(played), sum(any(k == kind for k, _ in done.faults) for done in played)


def report(tools, folder, workers, ways):
    """Plays it all and prints it; whether all is well."""
    began = time.monotonic()
    reception = Reception(tools, folder, workers)
    good = True
    head = ("before", "middle", "after", "points", *KINDS, "promised", "unheard")
    print(f"{'the listener':<16}" + "".join(f"{word:>10}" for word in head))
    total = 0
    for way in ways:
        hit, strange, missed = reception.sweep(way)
        phases = Counter(done.point[-1] for done in hit)
        kinds = Counter(kind for done in [*hit, *strange] for kind, _ in done.faults)
        row = [*(phases[phase] for phase in "bma"), len(hit), *(kinds[kind] for kind in KINDS),
               sum(done.promised for done in hit), sum(done.unheard for done in hit)]
        print(f"{way:<16}" + "".join(f"{cell:>10}" for cell in row))
        for done in [*strange, *hit]:
            for kind, words in done.faults[:3]:
                print(f"    scripts/crash-sweep --only {done.point}   killed {done.hit or 'nowhere'}: {kind}: {words}")
        if missed:
            print(f"    not reached, for the threads take turns as they like: {', '.join(missed)}")
        total += len(hit)
        good &= not kinds and sum(done.promised for done in hit) > 0
    for name, kind, runs, seen in reception.controls():
        print(f"control `{name}` (the listener): {kind} at {seen} of {runs} runs" + ("" if seen else ": THE SWEEP IS VOID"))
        good &= seen > 0
    print("promised: messages whose 250 was read, over all points; unheard: messages that lay there whole, killed between their name\n"
          "and their 250 (allowed: nobody can do better)")
    print(f"taken: {total} points of the listener, {time.monotonic() - began:.0f} s")
    return good
