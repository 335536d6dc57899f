"""How it is shown: one table, as text that is also Markdown."""

import statistics
import sys

HEAD = ["", "files/s (median)", "spread", "mailroot is × this", "CPU s / 1000", "peak memory", "runs"]


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
        for line in lines:
            self._put(f"- {line}")

    def row(self, result):
        self.failed |= result.failed
        self._put()
        self._put(f"### {result.title}")
        self._put()
        if result.lines:
            self._table(result.lines)
            self._put()
        for bar in result.bars:
            self.missed |= not bar.met
            self._put(f"- {bar.what}: **{bar.reached}**{'' if bar.met else ' — MISSED'}")
        for note in result.notes:
            self._put(f"- {note}")

    def _table(self, lines):
        ours = {line.name: line.rate for line in lines}
        cells = [HEAD] + [_cells(line, ours) for line in lines]
        widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
        for number, row in enumerate(cells):
            padded = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
            self._put("| " + " | ".join(padded) + " |")
            if number == 0:
                self._put("|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")
        for line in lines:
            if line.skipped:
                self._put()
                self._put(f"{line.name}: not measured: {line.skipped}")

    def end(self):
        if self.path:
            self.path.write_text("# scripts/bench\n\n" + "\n".join(self.text) + "\n")

    def exit_code(self, strict):
        """A bar that was missed is news, not an error, unless asked otherwise; a lost message always is one."""
        return 1 if self.failed or (strict and self.missed) else 0


def _cells(line, ours):
    if not line.runs:
        return [line.name, "–", "", "", "", "", "0"]
    rates = [run.rate for run in line.runs]
    # Like with like: BDAT beside BDAT.
    reference = ours.get("mailroot, BDAT" if line.name.endswith("BDAT") else "mailroot, DATA")
    ratio = f"{reference / line.rate:.2f}" if reference and not line.name.startswith("mailroot") else ""
    cpu = statistics.median(run.cpu / run.messages * 1000 for run in line.runs)
    peak = max(run.peak_kib for run in line.runs)
    return [
        line.name,
        _number(line.rate),
        f"{_number(min(rates))}–{_number(max(rates))}",
        ratio,
        f"{cpu:.3f}",
        f"{peak / 1024:.1f} MiB" if peak else "?",
        str(len(rates)),
    ]


def _number(rate):
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
