"""A service in place of mailroot that commits one sin: what the checks of scripts/trouble must catch.

bad_service.py SIN run TREE
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def say(level, message):
    print(json.dumps({"level": level, "message": message}), flush=True)


def main():
    sin, tree = sys.argv[1], Path(sys.argv[3])
    for name in ("Pickup", "Queue", "Drop", "Badmail"):
        (tree / name).mkdir(exist_ok=True)
    if sin == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say("INFO", "running")
    if sin == "panics":
        print("thread 'session-1' panicked at src/engine", flush=True)
    began = time.monotonic()
    while True:
        # "silent" holds mail up for a while and says nothing.
        for file in (tree / "Pickup").glob("*.eml") if sin != "silent" or time.monotonic() - began > 11 else []:
            content = file.read_bytes()
            if sin != "loses":
                (tree / "Drop" / f"{file.stem}.EML").write_bytes(content)
            if sin == "doubles":
                (tree / "Drop" / f"{file.stem}-again.EML").write_bytes(content)
            os.unlink(file)
        if sin == "floods":
            say("WARN", "tried again")
        if sin != "busy":
            time.sleep(0.05)


main()
