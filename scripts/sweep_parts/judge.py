"""What lies in the tree and what the hosts took, against what the letters of the batch say."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from .calls import where_it_ended, window
from .letters import read_copy, split_leading
from .play import names

REMAINS = (".ENV", ".LTR", ".RTR")


@dataclass
class Verdict:
    """The faults of one point; `twice` is allowed within limits, all else is not."""

    hit: str = ""
    lost: list = field(default_factory=list)
    damaged: list = field(default_factory=list)
    wrong: list = field(default_factory=list)
    stuck: list = field(default_factory=list)
    left: list = field(default_factory=list)
    twice_here: list = field(default_factory=list)
    # (item, copies, where the engine was killed in its window)
    twice: list = field(default_factory=list)
    forbidden: list = field(default_factory=list)
    # The most messages of one connection that came twice because it ended.
    at_once: int = 0
    # Records and transcripts without a message: they wait for ten minutes (contract §3).
    waits: list = field(default_factory=list)

    @property
    def faults(self):
        kinds = ("lost", "damaged", "wrong", "stuck", "left", "twice_here", "forbidden")
        return [f"{kind.replace('_', ' ')}: {what}" for kind in kinds for what in getattr(self, kind)]


def judge(played):
    place = played.place
    verdict = Verdict()
    hit = next((call for call in map(where_it_ended, played.logs) if call), None)
    verdict.hit = f"{hit.killed} {hit.shown(str(place.tree))}" if hit else ""
    if played.stuck:
        verdict.stuck.append(played.stuck)
    letters = {letter.key: letter for letter in place.batch.letters}
    wanted = Counter(item for letter in place.batch.letters for item in letter.items())
    found = Counter()
    by_host = defaultdict(list)
    for copy, where in copies(place, letters, verdict):
        if copy.damage:
            verdict.damaged.append(f"{', '.join(map(str, copy.items))}: {copy.damage}")
        for item in copy.items:
            found[item] += 1
            if where:
                by_host[item].append((where, copy.ulid))
    for item, count in wanted.items():
        if not found[item]:
            verdict.lost.append(str(item))
        elif found[item] > count and item.place != "smtp":
            verdict.twice_here.append(f"{item} ({found[item]} times)")
        elif found[item] > count:
            twice(verdict, played, item, by_host[item])
    at_once(verdict, place.batch, wanted, by_host)
    verdict.wrong += [str(item) for item in found if item not in wanted]
    return verdict


def twice(verdict, played, item, taken):
    """Each copy but the last must have been under way when the engine was killed, one for each time."""
    steps = [window(played.logs, copy, ulid) for copy, ulid in taken[:-1]]
    verdict.twice.append((str(item), len(taken), steps[0]))
    if len(taken) > 1 + sum(played.killed) or any(step.isupper() for step in steps):
        verdict.forbidden.append(f"{item}: {len(taken)} times, {', '.join(steps[:5])}")
    if len({ulid for _, ulid in taken}) > 1:
        verdict.forbidden.append(f"{item}: under different names")


def at_once(verdict, batch, wanted, by_host):
    """No more messages may come twice from one connection than can have been under way there."""
    under_way = defaultdict(set)
    most = {}
    for item in wanted:
        for copy, ulid in by_host[item][:-1]:
            under_way[copy.port].add(ulid)
            most[copy.port] = batch.max_in_flight if copy.chunking else 1  # after DATA the next one waits for its own reply
    for port, ulids in under_way.items():
        verdict.at_once = max(verdict.at_once, len(ulids))
        if len(ulids) > most[port]:
            verdict.forbidden.append(f"{len(ulids)} messages of one connection came twice, {most[port]} can have been under way")


def copies(place, letters, verdict):
    """All that arrived, and by which transaction if a host took it; notes what should not be there."""
    for accepted in place.sink.accepted:
        yield read_copy(letters, accepted.content, accepted.recipients, "smtp"), accepted
    tree = place.tree
    for name in names(tree / "Drop"):
        if name.endswith(".EML") and not name.startswith("."):
            to, content = split_leading((tree / "Drop" / name).read_bytes())
            yield read_copy(letters, content, to, "drop"), None
        else:
            verdict.left.append(f"Drop/{name}")
    buried = names(tree / "Badmail")
    for name in buried:
        stem, _, end = name.rpartition(".")
        if end == "BAD":
            to, content = split_leading((tree / "Badmail" / name).read_bytes())
            yield read_copy(letters, content, to, "badmail"), None
            verdict.left += [f"Badmail/{stem}.{e} is missing" for e in ("BDR", "BDP") if f"{stem}.{e}" not in buried]
        elif name not in place.notes.get("stays", ()) and (end not in ("BDR", "BDP") or f"{stem}.BAD" not in buried):
            verdict.left.append(f"Badmail/{name}")
    for name in names(tree / "Queue"):
        (verdict.waits if name.endswith(REMAINS) else verdict.left).append(f"Queue/{name}")
    for folder in (place.pickup, tree / "Status/nodes", tree / "Logs"):
        verdict.left += [f"{folder.name}/{name}" for name in names(folder)]
    known = {"mailroot.toml", "Pickup", "Queue", "Drop", "Badmail", "Status", "Logs"}
    verdict.left += [name for name in names(tree) if name not in known]
