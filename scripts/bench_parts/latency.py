"""The row of one file at a time: from finished to accepted at the host, the engine being idle."""

import subprocess
import time

from .bench import Bar, Result, say
from .engine import Engine
from .senders import Failed, message

QUIET = 100.0  # pickup.quiet in milliseconds: what a file that is written in place has to wait


class Latency:
    name, what, seconds, quick = "latency", "file finished → accepted at the host, idle `run`, 1 KB", 80, True

    def measure(self, bench):
        count = 30 if bench.quick else 300
        result = Result(f"{self.name}: {self.what}, {count} files each way")
        say(self.name)
        home = bench.folder("latency")
        template = home / "template"
        template.write_bytes(message(1024, 0))
        probe = subprocess.Popen(
            [bench.sink_program, "latency", home / "mailroot/Pickup", template, str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            host = Port(int(probe.stdout.readline().split()[1]))
            root = bench.mailroot_at(home / "mailroot", host)
            with Engine(bench, root) as engine:
                time.sleep(1)
                before = engine.cpu(), engine.age()
                time.sleep(2 if bench.quick else 10)
                idle = (engine.cpu() - before[0]) / (engine.age() - before[1])
                out, error = probe.communicate("go\n", timeout=300)
        except (Failed, subprocess.TimeoutExpired, OSError, ValueError) as why:
            probe.kill()
            probe.communicate()
            result.unmeasured(why)
            return result
        if probe.returncode != 0:
            result.unmeasured(error.strip())
            return result
        for line in out.splitlines():
            way, *times = line.split()
            self._judge(result, way, sorted(float(time) for time in times))
        result.notes.append(f"`run` with nothing to do takes {idle * 100:.1f} % of a core")
        return result

    def _judge(self, result, way, times):
        beyond = 0 if way == "renamed" else QUIET
        words = "renamed in" if way == "renamed" else "written in place, beyond pickup.quiet"
        for name, share, most in (("median", 0.5, 2), ("99 %", 0.99, 10)):
            time = times[min(len(times) - 1, int(len(times) * share))] - beyond
            result.bars.append(Bar(f"{words}: {name}", f"≤ {most} ms", f"{time:.2f} ms", time <= most))
        result.notes.append(f"{words}: {times[0] - beyond:.2f}–{times[-1] - beyond:.2f} ms in all")


class Port:
    """A host that is only known by its port."""

    def __init__(self, port):
        self.port = port
