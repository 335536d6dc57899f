"""How it is shown: one table, as text that is also Markdown."""

import statistics
import sys

HEAD = ["", "files/s (median)", "spread", "mailroot is × this", "CPU s / 1000", "syncs / message", "peak memory", "files", "runs"]
TOP = """\
# What `scripts/bench` showed

Rates hold for this machine only; what counts are the ratios, all taken in one run, senders in turn. The load says whether
others were at work: above 1 the rates are too low, and ratios between programs that use the cores in different ways
are rough. `mailroot is × this` compares with mailroot's line of the same way to send.
"""
BARS = ["bar", "wanted", "reached", ""]


class Report:
    """Prints as it goes; keeps all for a file."""

    def __init__(self, path):
        self.path, self.text, self.failed, self.missed = path, [], False, False

    def _put(self, line=""):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(line, flush=True)
        self.text.append(line)

    def machine(self, lines):
        if self.text:
            self._put()
        for line in lines:
            self._put(f"- {line}")

    def row(self, result):
        self.failed |= result.failed
        self._put()
        self._put(f"### {result.title}")
        self._put()
        if result.lines:
            ours = {line.name: line.rate for line in result.lines}
            self._table([HEAD] + [_cells(line, ours) for line in result.lines])
            self._skipped(result.lines)
        if result.bars:
            self._table([BARS] + [[bar.what, bar.wanted, bar.reached, _verdict(bar)] for bar in result.bars])
        self.missed |= any(bar.met is False for bar in result.bars)
        for note in result.notes:
            self._put(f"- {note}")

    def _table(self, cells):
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        for number, row in enumerate(cells):
            padded = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
            self._put("| " + " | ".join(padded) + " |")
            if number == 0:
                self._put("|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")
        self._put()

    def _skipped(self, lines):
        for line in lines:
            if line.skipped:
                self._put(f"{line.name}: not measured: {line.skipped}")
                self._put()

    def end(self, command):
        if self.path:
            self.path.write_text(f"{TOP}\nMade by `{command}`.\n\n" + "\n".join(self.text) + "\n")

    def exit_code(self, strict):
        """A bar that was missed is news, not an error, unless asked otherwise; a lost message always is one."""
        return 1 if self.failed or (strict and self.missed) else 0


def _verdict(bar):
    return "" if not bar.wanted or bar.met is None else "met" if bar.met else "MISSED"


def _cells(line, ours):
    if not line.runs:
        return [line.name, "–", "", "", "", "", "", "", "0"]
    rates = [run.rate for run in line.runs]
    # Like with like: BDAT beside BDAT.
    reference = ours.get(line.beside)
    return [
        line.name,
        _number(line.rate),
        f"{_number(min(rates))}–{_number(max(rates))}",
        f"{reference / line.rate:.2f}" if reference else "",
        "?" if line.cpu is None else f"{line.cpu:.3f}",
        "" if line.syncs is None else f"{line.syncs:.3f}",
        f"{line.peak_kib / 1024:.1f} MiB" if line.peak_kib else "?",
        f"{line.runs[0].messages:,}",
        str(len(rates)),
    ]


def _number(rate):
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
