"""Holds the simulated disk to its own description; run at each start, it takes no time."""

from .disk import Disk
from .trace import Op


def op(call, path, other="", flags="", data=b"", handle=0, offset=0):
    return Op(0, call, (0, handle), path, other, offset, flags, 0, (0, 1), 0.0, data)


def after(files, *ops, unsynced=()):
    """The trees that a cut may leave, as sets of (path, content)."""
    disk = Disk({p: (d, None) for p, d in files.items()}, unsynced)
    for one in ops:
        disk.play(one, 0.0)
    return {frozenset((p, d) for p, (d, _) in tree.items()) for _, tree in disk.cuts(lambda _: True, 0)}


def tree(**files):
    return frozenset((path.replace("_", "/"), data) for path, data in files.items())


def check():
    """Raises AssertionError where the disk is not as its head says."""
    new = [op("open", "0/t", flags="c", handle=1), op("write", "0/t", data=b"ab", handle=1)]
    sync = op("fsync", "0/t", handle=1)
    move = op("rename", "0/t", "0/e")
    holder = op("fsync", "0", flags="d")
    # A name without bytes, a length without bytes, half of the bytes; or nothing at all.
    assert after({}, *new) == {tree(), tree(**{"0_t": b""}), tree(**{"0_t": b"a"}), tree(**{"0_t": b"ab"}), tree(**{"0_t": bytes(2)})}
    # fsync of a file does not make its name durable.
    assert after({}, *new, sync) == {tree(), tree(**{"0_t": b"ab"})}
    # fsync of a folder does not make the bytes durable.
    assert tree(**{"0_e": b""}) in after({}, *new, move, holder)
    # put: after all four steps there is nothing to choose, and before them the old one or the new one.
    assert after({"0/e": b"x"}, *new, sync, move, holder) == {tree(**{"0_e": b"ab"})}
    assert after({"0/e": b"x"}, *new, sync, move) == {tree(**{"0_e": b"x"}), tree(**{"0_e": b"x", "0_t": b"ab"}), tree(**{"0_e": b"ab"})}
    # Bytes that are written out before the name: the name never comes without them.
    out = op("fsync", "0/t", flags="w", handle=1)
    assert after({}, *new, out, move, holder) == {tree(**{"0_e": b"ab"})}
    assert after({"0/e": b"x"}, *new, out, move) == {tree(**{"0_e": b"x"}), tree(**{"0_e": b"x", "0_t": b"ab"}), tree(**{"0_e": b"ab"})}
    # A rename between two folders: one name, never both and never none; durable with the target folder.
    claim = op("rename", "0/P/x", "0/Q/x")
    here, there = tree(**{"0_P_x": b"x"}), tree(**{"0_Q_x": b"x"})
    assert after({"0/P/x": b"x"}, claim) == {here, there}
    assert after({"0/P/x": b"x"}, claim, op("fsync", "0/Q", flags="d")) == {there}
    assert after({"0/P/x": b"x"}, claim, op("fsync", "0/P", flags="d")) == {there}
    # What came and went leaves no trace in the target folder: the source may still hold it.
    gone = [claim, op("unlink", "0/Q/x"), op("fsync", "0/Q", flags="d")]
    assert after({"0/P/x": b"x"}, *gone) == {here, tree()}
    assert after({"0/P/x": b"x"}, *gone, op("fsync", "0/P", flags="d")) == {tree()}
    # A file without a name: nothing of it shows before it is linked; then it has bytes if it was synced.
    nameless = [op("open", "0/P", flags="n", handle=1), op("write", "0/P", data=b"ab", handle=1)]
    name = op("link", "0/t", "0/P/x", handle=1)
    assert after({}, *nameless) == {tree()}
    assert after({}, *nameless, sync, name) == {tree(), tree(**{"0_P_x": b"ab"})}
    assert after({}, *nameless, sync, name, op("fsync", "0/P", flags="d")) == {tree(**{"0_P_x": b"ab"})}
    assert tree(**{"0_P_x": b""}) in after({}, *nameless, name, op("fsync", "0/P", flags="d"))
    # Removals come back, in any subset; without a sync in between also out of order.
    both = {"0/a": b"1", "0/b": b"2"}
    assert len(after(both, op("unlink", "0/a"), op("unlink", "0/b"))) == 4
    # A folder that is not there hides what is in it.
    inside = [op("mkdir", "0/d"), op("open", "0/d/f", flags="c", handle=1), op("fsync", "0/d", flags="d")]
    assert after({}, *inside) == {tree(), frozenset({("0/d", None), ("0/d/f", b"")})}
    # What its writer did not sync.
    assert tree(**{"0_x": b""}) in after({"0/x": b"data"}, unsynced={"0/x"})
