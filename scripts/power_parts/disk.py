"""A disk that forgets what was not synced.

The model, which relies on less than ext4, XFS or any journal gives:

* A file's bytes, its length and its names are three things. fsync of a file makes its bytes and length durable, and not
  its name; fsync of a folder makes the names in it durable, and not the bytes behind them, nor the folder's own name.
* Of the writes to a file since its last sync any subset may be on the disk, and the length may be there without the
  bytes (zeros), or a part of a write.
* Bytes that were written out (sync_file_range, flag w) count as durable with the first name made durable after them: so it
  is where a volume commits in order (ext4 and XFS with the journal inside; on_disks.py tries that on the real ones). A file
  whose name is not durable yet shows to nobody, so here they are durable at once.
* Of the changes of names since the last sync any subset may be on the disk, in any order, but for two things: what
  happened to one and the same name happened in order, and a rename is atomic, also between two folders: the file has
  the old name or the new one, never both and never none.
* A file without a name (O_TMPFILE) that was synced, and is then linked into a folder that is synced, is there for good;
  mailroot relies on that only where it is known to hold (ext4, XFS, tmpfs). One that was never linked is gone.
* fsync of a folder promises what the folder shows, no more: a name that came and went since the last sync leaves no
  trace in it, so such a pair may both be missing still (then a file that was renamed into Queue and removed there
  lies in Pickup again, until Pickup is synced).
* A removal is durable with the sync of its folder; a rename with that of the target folder, or of the source folder.
* What a process wrote before it was killed is in the memory of the system, not on the disk.
"""

import functools
import hashlib
import random

MANY = 64  # subsets at one cut that are all tried; above that a choice is made
CHANCE = 16  # so many of them by lot


class File:
    """An inode with bytes."""

    __slots__ = ("durable", "current", "pending", "mtime", "number")
    count = 0

    def __init__(self, data=b"", mtime=None):
        File.count += 1
        self.number = File.count
        self.durable = self.current = data
        self.pending = []  # (offset, bytes) or (length, None)
        self.mtime = mtime

    def change(self, offset, data, time):
        self.pending.append((offset, data))
        self.current = changed(self.current, offset, data)
        self.mtime = time

    def sync(self):
        self.durable, self.pending = self.current, []

    def versions(self):
        """What the disk may hold of it; what is most likely comes first."""
        if not self.pending:
            return [self.durable]
        found = [self.current, self.durable, changed(self.durable, len(self.current), None)]
        for left_out in range(len(self.pending)):
            if len(self.pending) > 1:
                found.append(replay(self.durable, self.pending[:left_out] + self.pending[left_out + 1 :]))
                found.append(replay(self.durable, self.pending[: left_out + 1]))
        offset, data = self.pending[-1]
        if data and len(data) > 1:
            found.append(replay(self.durable, [*self.pending[:-1], (offset, data[: len(data) // 2])]))
        return list(dict.fromkeys(found))[:8]


def changed(content, offset, data):
    if data is None:  # a new length
        return content[:offset] + bytes(max(0, offset - len(content)))
    content = content + bytes(max(0, offset - len(content)))
    return content[:offset] + data + content[offset + len(data) :]


def replay(content, writes):
    for offset, data in writes:
        content = changed(content, offset, data)
    return content


FOLDER = "folder"  # what a name stands for that was made by mkdir


class Change:
    """Names that change together: one for create, unlink, mkdir; two for a rename."""

    __slots__ = ("number", "names", "bundle")

    def __init__(self, number, names):
        self.number = number
        self.names = names  # {path: File, FOLDER or None}
        self.bundle = [self]  # all or none of these are on the disk


class Name:
    __slots__ = ("base", "changes")

    def __init__(self, base):
        self.base = base  # what the disk holds for certain
        self.changes = []  # since then, in order

    def now(self, path):
        return self.changes[-1].names[path] if self.changes else self.base


class Disk:
    """Plays a trace; at any time it can say which trees a cut may leave. `unsynced`: files whose bytes their writer did
    not sync. `ignores`: a kind of sync that does nothing."""

    def __init__(self, files, unsynced=(), ignores=None):
        self.names = {}
        self.ignores = ignores
        self.handles = {}
        self.count = 0
        for path, (data, mtime) in files.items():
            if data is None:
                self.names[path] = Name(FOLDER)
                continue
            file = File(data, mtime)
            if path in unsynced:
                file.durable, file.pending = b"", [(0, data)]
            self.names[path] = Name(file)

    def at(self, path):
        name = self.names.get(path)
        return name.now(path) if name else None

    def play(self, op, wall):
        if not op.done:
            return
        if op.call == "open":
            self.open(op, op.time + wall)
        elif op.call in ("write", "truncate"):
            file = self.handles.get(op.handle)
            if isinstance(file, File):
                file.change(op.offset, op.data if op.call == "write" else None, op.time + wall)
        elif op.call == "mkdir":
            self.change({op.path: FOLDER})
        elif op.call == "unlink":
            self.change({op.path: None})
        elif op.call == "rename":
            self.change({op.path: None, op.other: self.at(op.path)})
        elif op.call == "link":
            file = self.handles.get(op.handle)
            if not isinstance(file, File):
                raise ValueError("a link of a file with a name: the model has none")
            self.change({op.other: file})
        elif op.call == "fsync" and op.kind != self.ignores:
            self.sync(op)

    def open(self, op, time):
        if "n" in op.flags:
            self.handles[op.handle] = File(b"", time)
            return
        if "c" in op.flags:
            self.change({op.path: File(b"", time)})
        file = self.at(op.path)
        if "t" in op.flags and isinstance(file, File):
            file.change(0, None, time)
        self.handles[op.handle] = file

    def change(self, names):
        self.count += 1
        change = Change(self.count, names)
        for path in names:
            self.names.setdefault(path, Name(None)).changes.append(change)

    def sync(self, op):
        if "d" not in op.flags:
            file = self.handles.get(op.handle) or self.at(op.path)
            if isinstance(file, File):
                file.sync()
            return
        inside = op.path + "/"
        for path in [p for p in self.names if p.startswith(inside) and "/" not in p[len(inside) :]]:
            name = self.names[path]
            if not name.changes:
                continue
            if name.now(path) is not name.base:
                self.settle(name.changes[-1])
            else:
                self.tie(path, name)

    def settle(self, change):
        """It is on the disk, and with it all that it stands on."""
        waiting = [change]
        while waiting:
            one = waiting.pop()
            for member in one.bundle:
                for path in member.names:
                    changes = self.names[path].changes
                    if member not in changes:
                        continue
                    at = changes.index(member)
                    before, self.names[path].changes = changes[:at], changes[at + 1 :]
                    self.names[path].base = member.names[path]
                    waiting.extend(before)
                    # What came before it on this name cannot undo it any more, but may still move elsewhere.
                    for earlier in before:
                        earlier.names = {p: v for p, v in earlier.names.items() if p != path}

    @staticmethod
    def tie(path, name):
        """The name shows what it showed at the last sync: each coming and going is on the disk whole or not at all."""
        run = []
        for change in name.changes:
            run.append(change)
            if change.names[path] is name.base:
                members = list({id(m): m for one in run for m in one.bundle}.values())
                for member in members:
                    member.bundle = members
                run = []

    # ---- what a cut may leave ----

    def bundles(self, matters):
        """Pending changes that matter, as bundles in order, each with the bundles that must be there before it."""
        found, place = [], {}
        pending = {id(c): c for path, name in self.names.items() for c in name.changes if matters(path)}
        for change in sorted(pending.values(), key=lambda c: c.number):
            if id(change) not in place:
                for member in change.bundle:
                    place[id(member)] = len(found)
                found.append(change.bundle)
        needs = [set() for _ in found]
        for name in self.names.values():
            for earlier, later in zip(name.changes, name.changes[1:]):
                a, b = place.get(id(earlier)), place.get(id(later))
                if a is not None and b is not None and a != b:
                    needs[b].add(a)
        return found, needs

    def cuts(self, matters, seed):
        """Trees that a cut at this moment may leave: {path: (bytes or None for a folder, mtime)}, without doubles."""
        bundles, needs = self.bundles(matters)
        seen = set()
        for subset in subsets(len(bundles), needs, seed):
            names = self.names_after(bundles, subset, matters)
            for tree in self.contents(names, seed):
                mark = fingerprint(tree)
                if mark not in seen:
                    seen.add(mark)
                    yield mark, tree

    def names_after(self, bundles, subset, matters):
        chosen = {id(member) for index in subset for member in bundles[index]}
        names = {}
        for path, name in self.names.items():
            if not matters(path):
                continue
            value = name.base
            for change in name.changes:
                if id(change) in chosen:
                    value = change.names[path]
            if value is not None:
                names[path] = value
        return {p: v for p, v in names.items() if self.is_reachable(p, names)}

    def is_reachable(self, path, names):
        folder = path.rpartition("/")[0]
        while "/" in folder:
            if folder in self.names and names.get(folder) is not FOLDER:
                return False
            folder = folder.rpartition("/")[0]
        return True

    @staticmethod
    def contents(names, seed):
        loose = [p for p, v in names.items() if v is not FOLDER and v.pending]
        plain = {p: (None, None) if v is FOLDER else (v.current, v.mtime) for p, v in names.items()}
        versions = {p: names[p].versions() for p in loose}
        total = 1
        for found in versions.values():
            total *= len(found)
        if total <= MANY:
            choices = [{}]
            for path, found in versions.items():
                choices = [{**c, path: v} for c in choices for v in found]
        else:
            choices = [{p: v[min(i, len(v) - 1)] for p, v in versions.items()} for i in range(3)]
            for path, found in versions.items():  # each alone damaged, in each way
                choices += [{p: (one if p == path else v[0]) for p, v in versions.items()} for one in found[1:]]
            lot = random.Random(f"{seed} {sorted(versions)}")
            choices += [{p: lot.choice(v) for p, v in versions.items()} for _ in range(CHANCE)]
        for choice in choices:
            yield {**plain, **{p: (v, names[p].mtime) for p, v in choice.items()}}


def subsets(count, needs, seed):
    """Sets of bundle numbers that hold with each bundle what it stands on: all of them where they are few."""
    found = [()]
    for index in range(count):
        found += [(*s, index) for s in found if needs[index] <= set(s)]
        if len(found) > MANY:
            return some(count, needs, seed)
    return found


def some(count, needs, seed):
    def grown(wanted):
        wanted = set(wanted)
        for index in sorted(wanted, reverse=True):
            wanted |= closure(index)
        return tuple(sorted(wanted))

    def closure(index):
        all_of_it, waiting = set(), [index]
        while waiting:
            for before in needs[waiting.pop()] - all_of_it:
                all_of_it.add(before)
                waiting.append(before)
        return all_of_it

    def shrunk(missing):
        return tuple(i for i in range(count) if i not in missing and not closure(i) & missing)

    found = [(), tuple(range(count))]
    found += [grown([i]) for i in range(count)]
    found += [shrunk({i}) for i in range(count)]
    lot = random.Random(f"{seed} {count}")
    found += [grown(i for i in range(count) if lot.random() < 0.5) for _ in range(CHANCE)]
    return list(dict.fromkeys(found))


def fingerprint(tree):
    mark = hashlib.sha1()
    for path in sorted(tree):
        mark.update(path.encode("utf-8", "surrogateescape") + b"\0")
        data = tree[path][0]
        mark.update(b"/" if data is None else digest(data))
    return mark.hexdigest()


@functools.lru_cache(4096)
def digest(data):
    return hashlib.sha1(data).digest()
