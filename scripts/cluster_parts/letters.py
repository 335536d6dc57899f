"""The messages, and what must become of each."""

import os
import threading
import time
from collections import Counter

LOCAL = "local.test"
BODY = "The quick brown fox jumps over the lazy dog and runs on to the next line.\r\n" * 12


def kind_of(number):
    """Mostly remote; of a hundred some for Drop, some for both, some malformed, refused, or deferred at first."""
    return KINDS[number * 37 % 100]


KINDS = ["drop"] * 5 + ["both"] * 3 + ["two"] * 3 + ["malformed"] * 2 + ["refused"] * 2 + ["later"] * 2 + ["remote"] * 83


class Letter:
    def __init__(self, number):
        self.number, self.kind = number, kind_of(number)
        self.ident = f"<{number:06}@case.test>"
        self.sender = f"s{number:06}@sender.test"
        self.at_sink, self.at_drop, self.at_badmail, self.report = [], False, False, False
        remote = f"r{number:06}@d{number % 7}.test"
        if self.kind == "drop":
            self.recipients, self.at_drop = [f"r{number:06}@{LOCAL}"], True
        elif self.kind == "both":
            self.recipients, self.at_sink, self.at_drop = [remote, f"r{number:06}@{LOCAL}"], [remote], True
        elif self.kind == "two":
            other = f"r{number:06}@e.test"
            self.recipients = self.at_sink = [remote, other]
        elif self.kind == "malformed":
            self.recipients, self.at_badmail = [remote], True
        elif self.kind == "refused":
            self.recipients, self.report = [f"refused{number:06}@d.test"], True
        elif self.kind == "later":
            self.recipients = self.at_sink = [f"later{number:06}@d.test"]
        else:
            self.recipients = self.at_sink = [remote]

    def text(self):
        lines = [f"x-sender: <{self.sender}>"] + [f"x-receiver: <{one}>" for one in self.recipients]
        lines += [f"Message-ID: {self.ident}", f"From: <{self.sender}>", f"To: <{self.recipients[0]}>",
                  f"Subject: message {self.number}", "Date: Mon, 05 Jan 2026 10:00:00 +0000"]
        if self.kind == "malformed":
            lines.append("this line is no header line")
        return ("\r\n".join(lines) + "\r\n\r\n" + BODY).encode()


HANDS = 12  # that put letters at once: on network storage each is a long wait


class Feeder(threading.Thread):
    """Puts letters into Pickup by rename: all at once, or so many a second."""

    def __init__(self, pickup, letters, rate=None):
        super().__init__(daemon=True)
        self.pickup, self.letters, self.rate = pickup, letters, rate
        self.put, self.halt, self.rest = 0, threading.Event(), threading.Event()
        self.unsure = set()
        self.error = None
        self.turn, self.counting = threading.Lock(), threading.Lock()
        self.left, self.began, self.given = iter(letters), 0.0, 0

    def run(self):
        self.began = time.monotonic()
        hands = [threading.Thread(target=self._work, daemon=True) for _ in range(HANDS)]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()

    def _work(self):
        while True:
            with self.turn:
                letter = self._next()
            if letter is None:
                return
            while not self._put(letter):
                if self.halt.wait(0.5):
                    return
            with self.counting:
                self.put += 1

    def _next(self):
        """The next letter, when it is due."""
        while self.rate and self.rest.is_set() and not self.halt.is_set():
            time.sleep(0.05)
            self.began += 0.05
        ahead = self.began + self.given / self.rate - time.monotonic() if self.rate else 0
        if self.halt.is_set() or ahead > 0 and self.halt.wait(ahead):
            return None
        self.given += 1
        return next(self.left, None)

    def _put(self, letter):
        name = f"{letter.number:06}.eml"
        aside = self.pickup / f".{name}.tmp"
        try:
            aside.write_bytes(letter.text())
            os.rename(aside, self.pickup / name)
            return True
        except OSError as error:
            self.error = error
            try:
                # A rename that reported an error may have happened.
                return not aside.exists()
            except OSError:
                self.unsure.add(letter.number)
                return False


def summary(letters):
    counts = Counter(letter.kind for letter in letters)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
