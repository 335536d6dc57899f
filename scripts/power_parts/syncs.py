"""Every sync of the source, and how it is known in a trace: by what was synced, and by what the same thread did before
and after."""

import re

from .trace import Op

PROOF = "proof of the storage"
PROBE = "/.MAILROOT-PROBE-"  # files of the proof of the storage at each start; no mail depends on them

# kind → (where it stands, why it is there)
SYNCS = {
    "ENV file": ("spool::write_out ← record", "an ENV is whole before it has its name"),
    "report file": ("spool::write_out ← put_report", "a DSN is whole before it has its name"),
    "copied file": ("spool::write_out ← bring_in", "a copy from another volume is whole before it has its name"),
    "Drop file": ("spool::write_out ← deposit", "a Drop file is whole before it has its name"),
    "Badmail file": ("spool::write_out ← put_three", "a Badmail file is whole before it has its name"),
    "Queue after ENV": ("spool::put ← record", "what is recorded stays recorded, and the claim with it"),
    "Queue after report": ("spool::put ← put_report", "the DSN is there before its message goes"),
    "Queue after copy": ("spool::put ← bring_in", "the copy has its name before the former goes"),
    "Drop": ("spool::put ← deposit", "the Drop file is there before it counts as delivered"),
    "Badmail": ("spool::put ← put_three", "the Badmail files are there before the message goes"),
    "message file": ("spool::make_durable ← settle::before_record, save", "the bytes of a message that stays"),
    "Pickup after copy": ("across::bring_in", "the former is gone before the copy is sent"),
    "Pickup, half renamed": ("across::claim_across_volumes", "the former name does not come back beside the copy"),
    "Pickup, half taken over": ("across::finish_half_claim", "the dead one's name does not come back beside the copy"),
    "Queue, half claim": ("across::finish_half_claim", "the copy's name is durable before the former goes"),
    "Pickup, half claim": ("across::finish_half_claim", "the former is gone before the copy is sent"),
    "Queue, next life": ("keeper::claim_and_read", "what a dead node wrote is durable before anything follows"),
    "Pickup before take-over": ("takeover::take_over", "what a dead node removed there does not come back beside its next life"),
    "Queue, older records": ("spool::sweep", "an old record does not outlive the newest: a report could wait for it for ever"),
    "Queue before Badmail": ("undelivered::bury_unread", "what is buried does not come back to be buried again"),
    "Queue at flush": ("spool::sync_removals", "what is removed stays removed; then its ENV may go"),
    "Pickup at flush": ("spool::sync_removals", "what was taken from Pickup and is gone does not come back"),
    "parent of a new folder": ("tree::make", "a folder that will hold mail is found again"),
}
# Those of the listener (reception.py).
RECEIVING = {
    "incoming file": ("inbox::publish", "a message is whole before it has its name"),
    "Pickup after incoming": ("inbox::publish (one for all who wait)", "the name is durable before 250 is said"),
}
# What came next is not known: the process was ended right after it.
LAST = "the last call of all"
# Only after two nodes have seen different things at once: no batch of one node comes there.
UNREACHED = {
    "Queue, half claim": "not reached by one node's crashes and cuts; tests/model.rs tries it (another volume)",
    "Pickup, half claim": "the same",
}
# Where it is known to matter: looked at before other batches.
FIRST = {
    "Queue, next life": "crash, record",
    "Queue, older records": "crash, report",
    "Pickup before take-over": "crash, other volume",
}
ELSEWHERE = {
    "keeper::sweep_orphans": "only ten minutes after a removal; tests/model.rs tries it",
    "spool::prove": "only after a sync that failed (scripts/trouble)",
    "tree::write_new": "mailroot.toml and other files that `init` writes; no mail depends on it (half a file is removed)",
    "probe::writing (2)": "`check` asks whether the storage can sync; nothing depends on it",
}


def classify(ops):
    """Names the kind of each fsync in a trace."""
    contents = {}
    last = {}
    after = next_calls(ops)
    for index, op in enumerate(ops):
        if op.call == "write" and op.offset == 0:
            contents[op.path] = op.data
        if op.call == "fsync":
            if "d" in op.flags:
                op.kind = of_folder(op, last.get(op.thread), after.get(index), contents)
                if op.kind.endswith("unknown") and all(other.step != op.step for other in ops[index + 1 :]):
                    op.kind = LAST
            else:
                op.kind = of_file(op.path, contents)
        if op.call in ("rename", "unlink", "mkdir", "fsync") and op.done:
            if op.call == "rename" and op.path in contents:
                contents[op.other] = contents[op.path]
            last[op.thread] = op


def next_calls(ops):
    after, seen = {}, {}
    for index in range(len(ops) - 1, -1, -1):
        op = ops[index]
        if op.call in ("rename", "unlink", "fsync", "open"):
            after[index] = seen.get(op.thread)
            seen[op.thread] = op
    return after


def of_file(path, contents):
    folder = path.split("/")[-2]
    if PROBE in path:
        return PROOF
    if not path.endswith(".TMP"):
        return "message file"
    if folder in ("Drop", "Badmail"):
        return f"{folder} file"
    return {"ENV": "ENV file", "report": "report file", "copy": "copied file"}[what_is(contents.get(path, b""))]


def what_is(data):
    if data.startswith(b"mailroot-env"):
        return "ENV"
    return "report" if b"multipart/report" in data[:4000] else "copy"


def of_folder(op, before, after, contents):
    folder = op.path.split("/")[-1]
    before = before or Op(0, "", (0, 0), "", "", 0, "", 0, (0, 0), 0.0, b"")
    after = after or Op(0, "", (0, 0), "", "", 0, "", 0, (0, 0), 0.0, b"")
    if PROBE in before.path:
        return PROOF
    if folder not in ("Queue", "Pickup", "Drop", "Badmail"):
        return "parent of a new folder"
    if before.call == "rename" and before.path.endswith(".TMP"):
        return folder if folder in ("Drop", "Badmail") else "Queue after " + what_is(contents.get(before.other, b""))
    if folder == "Pickup":
        if is_take_over(after):
            return "Pickup before take-over"
        if before.call == "unlink" and "/Pickup/." in before.path:
            return "Pickup, half claim" if before.flags == "half" else "Pickup after copy"
        if before.call == "rename" and "/Pickup/." in before.other:
            return "Pickup, half taken over" if "/Pickup/." in before.path else "Pickup, half renamed"
        return "Pickup at flush" if before.call == "fsync" and before.path.endswith("/Queue") else f"{folder}, unknown"
    if folder == "Queue":
        if after.call == "unlink" and "/Pickup/." in after.path:
            after.flags = "half"  # so that its Pickup's sync is known too
            return "Queue, half claim"
        if after.call == "fsync" and after.path.endswith("/Pickup"):
            return "Queue at flush"
        if after.call == "unlink" and re.search(r"-\d+\.ENV$", after.path):
            return "Queue, older records"
        if before.call == "rename" and "@" in before.other and "@" not in before.path and "-" in before.path[-10:]:
            return "Queue, next life"
        if after.call == "open" and "/Badmail/" in after.path:
            return "Queue before Badmail"
    return f"{folder}, unknown"


def is_take_over(op):
    """ID@NODE.EML → ID-1.EML"""
    life, at, _ = op.path.partition("@")
    return op.call == "rename" and bool(at) and "/Queue/" in op.other and "@" not in op.other and op.other != f"{life}.EML"
