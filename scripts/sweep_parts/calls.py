"""The log of the preload library: which calls an engine made, and what they say about a copy that came twice."""

import re
from dataclasses import dataclass

NAMES = [(re.compile(r"^w\d+-\d+(?=/|$)"), "Pickup"), (re.compile(r"\.?[A-Z0-9-]+-[A-Z0-9]{4}\.\d+\.TMP"), "TMP"), (re.compile(r"[0-9A-Z]{26}(-\d+)?"), "ID"),
         (re.compile(r"[A-Z-]+-[A-Z0-9]{4}\b"), "NODE"), (re.compile(r"ID-[0-9A-F]{8}\.EML"), "ID-SET.EML")]

ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


@dataclass
class Call:
    number: int
    phases: str
    call: str
    path: str
    other: str
    result: int
    thread: int
    port: int

    @property
    def killed(self):
        """The phase in which it ended the process; empty when it did not."""
        return self.phases[1:] if self.phases.startswith("K") else ""

    def shown(self, tree=""):
        path, other = plain(self.path, tree), plain(self.other, tree)
        return f"{self.call} {path}" + (f" -> {other}" if other != "-" else "")


def plain(path, tree):
    """Without what differs from run to run."""
    path = path.replace(tree + "/", "")
    if path.startswith("/"):
        path = "/".join(path.rsplit("/", 2)[1:])
    for pattern, word in NAMES:
        path = pattern.sub(word, path)
    return path


def read_log(path):
    calls = []
    for line in path.read_text(errors="replace").splitlines() if path and path.exists() else []:
        fields = line.split(" ")
        if len(fields) == 9:
            number, phases, call, name, other, result, _, thread, port = fields
            calls.append(Call(int(number), phases, call, name, other, int(result), int(thread), int(port)))
    return calls


def where_it_ended(calls):
    return next((call for call in calls if call.killed), None)


def window(logs, copy, ulid):
    """How far the engine had come with the message of `copy` (taken by the sink) when it was killed: the call of its
    thread, and the phase. A word in capitals: it must not have come twice from there."""
    for calls in logs:
        sent, known = 0, False
        for at, call in enumerate(calls):
            known |= call.port == copy.port
            if call.call != "send" or call.port != copy.port or call.killed == "b":
                continue
            sent += max(call.result, 0)
            if sent >= copy.end:
                return after_content(calls, at, ulid)
        if known and where_it_ended(calls):
            return "1:send:a"  # the last one was under way: a call is logged when it returns
    return "WITHOUT-A-CRASH"


def after_content(calls, at, ulid):
    """`at`: the call by which the end of the content left. Counted are the calls of its thread that belong to this
    message, and apart from them those that belong to others on the same connection, which are settled in their turn.
    Replies are read in as many pieces as the host sends, those of messages ahead with them: one call."""
    thread = calls[at].thread
    own, others, last = 1, 0, calls[at].call
    later = [call for call in calls[at + 1:] if call.thread == thread or ulid in call.path]
    for place, call in enumerate(later):
        if call.thread == thread and call.call != "connect":
            if belongs_to(later, place) in (ulid, ""):
                own += not (call.call == last == "recv")
                last = call.call
            elif call.call == "fsync":
                return "AFTER-A-SYNC-FOR-ANOTHER"  # that may take long; it has to wait until nothing is under way
            else:
                others, last = others + 1, "other"
        done = call.result == 0 and call.killed != "b"
        recorded = call.call == "rename" and call.thread == thread and call.other.endswith(".ENV") and ulid in call.other
        removed = call.call == "unlink" and ulid in call.path and call.path.endswith(".EML")
        if done and (recorded or removed):
            return "AFTER-THE-RECORD"
    killed = where_it_ended(calls)
    if not killed:
        return "WITHOUT-A-CRASH"
    return f"{own}:{last}:{killed.killed if killed.thread == thread else 'a'}:{others}"


def belongs_to(calls, place):
    """The ULID of the message that a call of a session is about; empty when that cannot be said. What bears no name (a
    reply, a file that is about to be renamed) is about the next one that does; the sync of a folder about the last."""
    call = calls[place]
    if call.call == "send":
        return "another"  # the content of the one that is asked for has left
    synced = call.call == "fsync" and not re.search(r"\.[A-Z]{3}$", call.path)
    for other in reversed(calls[:place]) if synced else calls[place:]:
        found = ULID.search(other.other) or ULID.search(other.path)
        if found and other.thread == call.thread:
            return found.group(0)
    return ""
