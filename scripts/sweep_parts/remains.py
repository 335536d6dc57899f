"""Records and transcripts without a message: by the contract they wait for ten minutes, and then go."""

import subprocess
import time

from .play import names

MINUTES = 10 * 60 + 60


def after_ten_minutes(tools, folder):
    """What all points left of that kind, in one Queue, under a service whose clock jumps; what is wrong, or nothing."""
    tree = folder / "old"
    queue = tree / "Queue"
    queue.mkdir(parents=True)
    for name in names(folder / "remains"):
        (folder / "remains" / name).rename(queue / name)
    before = set(names(queue))
    if not before:
        return ""
    (tree / "mailroot.toml").write_text('[server]\nhostname = "node.here.test"\n[pickup]\npoll = "50ms"\n')
    lag = folder / "lag"
    lag.write_text(f"-{MINUTES}")
    environment = {"LD_PRELOAD": str(tools.library), "FAULTS_ROOT": str(tree), "FAULTS_STEADY": str(lag)}
    with open(folder / "log-old", "wb") as words:
        service = subprocess.Popen([tools.program, "run", tree], env=environment, stderr=words, stdout=words)
    try:
        time.sleep(1)
        early = before - set(names(queue))
        lag.unlink()
        until = time.monotonic() + 20
        while names(queue) and time.monotonic() < until:
            time.sleep(0.05)
        late = names(queue)
    finally:
        service.terminate()
        service.wait(20)
    if early:
        return f"swept before its time: {', '.join(sorted(early)[:5])}"
    return f"not swept after ten minutes: {len(late)} of {len(before)}, {', '.join(sorted(late)[:5])}" if late else ""
