"""Reads what scripts/faults wrote about one or more runs: every call that changed the tree or spoke, in order."""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


@dataclass(slots=True)
class Op:
    """One call. Paths are `0/Queue/x`: the number of the root, then the path below it."""

    step: int  # which process made it
    call: str
    handle: tuple  # (step, number): an open file, whatever its name becomes
    path: str
    other: str
    offset: int
    flags: str
    result: int
    thread: tuple
    time: float  # seconds of the monotonic clock
    data: bytes
    kind: str = ""  # of an fsync: which sync of the source this is (syncs.classify)

    @property
    def done(self):
        return self.result >= 0


def read(path, roots, step):
    ops = []
    with open(path, "rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break  # the process was killed while it wrote this line: the call had happened, its data is not known
            f = line[:-1].decode("ascii", "surrogateescape").split("\t")
            ops.append(
                Op(
                    step,
                    f[1],
                    (step, int(f[2])),
                    relative(f[3], roots),
                    relative(f[4], roots),
                    int(f[5]),
                    f[6],
                    int(f[7]),
                    (step, int(f[8])),
                    int(f[9]) / 1e6,
                    bytes.fromhex(f[10]),
                )
            )
    return ops


def relative(text, roots):
    path = unquote_to_bytes(text).decode("utf-8", "surrogateescape")
    for number, root in enumerate(roots):
        if path == root:
            return str(number)
        if path.startswith(root + "/"):
            return f"{number}{path[len(root):]}"
    return path
