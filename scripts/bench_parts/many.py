"""The row of many recipients and many destinations, of which some are dead: the good ones must not wait for those."""

import socket
import statistics
import time

from .bench import Bar, Line, Result, say
from .engine import Engine
from .senders import SENDER, Failed, Run

DOMAINS, EACH = 500, 20  # 10,000 recipients
GOOD = DEAD = 100
MESSAGES = 50  # for each destination
BODY = "Subject: many\n\n" + "The quick brown fox jumps over the lazy dog.\n" * 20


class Dead:
    """Destinations that nobody can reach: half refuse at once, half take the connection and never say a word."""

    def __init__(self):
        self.silent = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.closed = socket.create_server(("127.0.0.1", 0))
        self.refusing = self.closed.getsockname()[1]
        self.closed.close()

    def port(self, number):
        return self.refusing if number % 2 else self.silent.getsockname()[1]

    def close(self):
        self.silent.close()


class ManyRecipients:
    name = "many-recipients"
    what = "1 message to 10,000 recipients on 500 domains; 100 dead destinations among 100 good ones"
    seconds, quick = 120, True

    def measure(self, bench):
        result = Result(f"{self.name}: {self.what}")
        domains = DOMAINS // 5 if bench.quick else DOMAINS
        messages, runs = (10, 1) if bench.quick else (MESSAGES, bench.runs)
        one = [f"r{n}@d{d}.good.example" for d in range(domains) for n in range(EACH)]
        lines = {}

        def line(name):
            lines[name] = Line(name)
            result.lines.append(lines[name])
            return lines[name]

        alone = line(f"1 message, {len(one):,} recipients on {domains} domains")
        mixed = line("the same, and 100 dead domains in the message")
        good = line(f"100 good destinations, {messages} messages each")
        among = line(f"the same among {DEAD} dead ones, {messages} messages each")
        dead = Dead()
        try:
            for number in range(runs):
                say(f"{self.name}: run {number + 1} of {runs}")
                more = [f"r{n}@d{d}.dead.example" for d in range(DEAD) for n in range(EACH)]
                alone.runs.append(self._one(bench, dead, domains, [one], len(one)))
                mixed.runs.append(self._one(bench, dead, domains, [_shuffled(one, more)], len(one)))
                letters = [[f"r@d{d}.good.example"] for _ in range(messages) for d in range(GOOD)]
                bad = [[f"r@d{d}.dead.example"] for _ in range(messages) for d in range(DEAD)]
                good.runs.append(self._one(bench, dead, GOOD, letters, len(letters)))
                among.runs.append(self._one(bench, dead, GOOD, _shuffled(letters, bad), len(letters)))
        except Failed as why:
            bench.bdat.forget()
            result.unmeasured(why)
            return result
        finally:
            dead.close()
        for what, one, other in (
            ("1 message: time of the good with the dead, times alone", alone, mixed),
            ("100 destinations: time of the good with the dead, times alone", good, among),
        ):
            slower = one.rate / other.rate
            result.bars.append(Bar(what, "≤ 1.5", f"{slower:.2f}", slower <= 1.5))
        result.notes.append("counted are recipients of good domains; half of the dead refuse connections, half never greet")
        for entry in result.lines:
            seconds = statistics.median(run.seconds for run in entry.runs)
            result.notes.append(f"{entry.name}: {seconds:.2f} s")
        return result

    def _one(self, bench, dead, domains, letters, wanted):
        """`run` on files that lie there; until the good ones have all of theirs."""
        remote = "".join(
            f'[[remote]]\nname = "d{d}.{kind}.example"\nroute = "smart_host"\nsmart_host = "[127.0.0.1]:{port}"\n'
            for kind, many, ports in (("good", domains, lambda _: bench.bdat.port), ("dead", DEAD, dead.port))
            for d in range(many) for port in [ports(d)])
        root = bench.mailroot_at(bench.folder("many") / "mailroot", bench.bdat, more=remote)
        for number, receivers in enumerate(letters):
            head = f"x-sender: {SENDER}\n" + "".join(f"x-receiver: {r} NOTIFY=NEVER\n" for r in receivers)
            (root / f"Pickup/{number:05}.eml").write_text(head + BODY)
        time.sleep(0.2)
        before = bench.bdat.ask("count")["recipients"]
        with Engine(bench, root) as engine:
            while bench.bdat.ask("count")["recipients"] - before < wanted:
                if engine.age() > 120:
                    came = bench.bdat.ask("count")["recipients"] - before
                    raise Failed(f"{came:,} of {wanted:,} recipients were served in 120 s")
                time.sleep(0.005)
            run = Run(engine.age(), wanted, engine.cpu(), engine.peak_kib())
        too_many = bench.bdat.ask("count")["recipients"] - before - wanted
        bench.bdat.forget()
        if too_many:
            raise Failed(f"{too_many} recipients were served twice")
        return run


def _shuffled(good, dead):
    """One of the dead before each so many good ones, as mail comes in."""
    every = max(1, len(good) // len(dead))
    mixed = []
    for number, one in enumerate(good):
        if number % every == 0 and number // every < len(dead):
            mixed.append(dead[number // every])
        mixed.append(one)
    return mixed + dead[-(-len(good) // every):]
