"""Controls: what must fail, so that the checks are known to bite."""

import sys
from pathlib import Path

from .cases import MIX, Case
from .play import whole_story


def all_controls():
    """A disk that lies, and a service that does everything wrong."""
    def lie(name, rule, during):
        return Case(f"control-{name}", begin=lambda world: world.rules(rule), end=lambda world: world.rules(""), preloaded=True,
                    must_hit=True, during=during, after=[], patience=8.0, control=True)

    yield lie("lost-names", "rename@/Drop=LIE", ["drop"])
    yield lie("lost-bytes", "write@/Drop=LIE", ["drop"])
    yield lie("not-met", "rename@/Nowhere=EIO", ["drop"])
    for sin in ("loses", "doubles", "busy", "floods", "deaf", "panics", "silent"):
        yield Case(f"control-{sin}", before=[], during=["drop", "drop"], after=[], scenes=whole_story, patience=8.0, control=True)


def stands_in(case):
    """The command in place of mailroot."""
    sin = case.name.removeprefix("control-")
    script = Path(__file__).with_name("bad_service.py")
    return [sys.executable, str(script), sin] if sin in ("loses", "doubles", "busy", "floods", "deaf", "panics", "silent") else None


__all__ = ["MIX", "all_controls", "stands_in"]
