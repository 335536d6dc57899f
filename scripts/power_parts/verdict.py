"""Holds what came after a cut against what had been promised before it."""

from collections import Counter


class Verdict:
    """`wrong`: (kind of violation, words). `repeated`: what the contract allows to come again."""

    def __init__(self):
        self.wrong = []
        self.repeated = Counter()

    def add(self, kind, words):
        self.wrong.append((kind, words))


def judge(batch, promise, outcome):
    verdict = Verdict()
    letters = {one.name: one for one in batch.letters}
    sure = {name for name in letters if not batch.unsynced or name in promise.answered}
    accepted = dict(promise.accepted)
    if outcome.panicked:
        verdict.add("panic", outcome.panicked)
    for letter in letters.values():
        if letter.name in sure:
            for to, ends in letter.ends.items():
                Recipient(letter, to, ends, promise, accepted, outcome, verdict).judge()
    foreign(letters, sure, outcome, verdict)
    if sure == set(letters):
        for name in outcome.waiting:
            verdict.add("stuck", name)
    for name in outcome.temporary:
        verdict.add("left over", name)
    return verdict


class Recipient:
    def __init__(self, letter, to, ends, promise, accepted, outcome, verdict):
        self.letter, self.to, self.ends = letter, to, ends
        self.promise, self.accepted, self.outcome, self.verdict = promise, accepted, outcome, verdict

    def judge(self):
        found = {
            "smtp": self.by_smtp("mail"),
            "drop": self.in_drop("mail"),
            "dsn": self.by_smtp("Failure") + self.in_drop("Failure"),
            "success": self.by_smtp("Success") + self.in_drop("Success"),
            "badmail": self.in_badmail(),
        }
        there = {end for end, count in found.items() if count}
        for wanted in self.ends:
            if not wanted & there:
                self.say("lost", f"no {' or '.join(sorted(wanted))}, but {sorted(there) or 'nothing'}")
        for end in sorted(there - set().union(*self.ends)):
            self.say("wrong end", end)

    def say(self, kind, words):
        self.verdict.add(kind, f"{self.letter.name} to {self.to or 'nobody'}: {words}")

    def more_than_one(self, kind, count, where):
        """Allowed only for what had neither been recorded nor was proven gone."""
        name, to = self.letter.name, self.to
        if kind == "mail":
            state = "failed" if where == "in Badmail" else "delivered"
            settled = (name, "mail") in self.promise.gone or (name, "mail", to, state) in self.promise.recorded
        else:
            told = (name, to) in (self.promise.told if kind == "Delay" else self.promise.reported)
            settled = (name, kind) in self.promise.gone and (told or (name, "mail") in self.promise.gone)
        if settled:
            self.say("doubled", f"{kind} {count} times {where}, though that was recorded or its removal synced")
        else:
            self.verdict.repeated[where] += 1

    def by_smtp(self, kind):
        before = self.accepted.get((self.letter.name, kind, self.to), 0)
        after = 0
        for name, of_kind, to, about, whole in self.outcome.copies:
            if name == self.letter.name and of_kind == kind and self.to in (to if kind == "mail" else about):
                after += 1
                if not whole:
                    self.say("damaged", f"{kind} by SMTP")
        if after > 1:
            self.say("doubled", f"{kind} {after} times by SMTP after the cut")
        if before and after:
            self.more_than_one(kind, before + after, "by SMTP")
        return before + after

    def in_drop(self, kind):
        files = []
        for file, name, of_kind, to, about, whole in self.outcome.drop:
            if name == self.letter.name and of_kind == kind and self.to in (to if kind == "mail" else about):
                files.append(file)
                if not whole:
                    self.say("damaged", f"{kind} in Drop, {file}")
        if len(files) > 1:
            self.more_than_one(kind, len(files), "in Drop")
        return len(files)

    def in_badmail(self):
        files = []
        for file, name, kind, to, whole in self.outcome.badmail:
            if name == self.letter.name and kind == "mail" and (not self.to or self.to in to):
                files.append(file)
                if not whole:
                    self.say("damaged", f"in Badmail, {file}")
        if len(files) > 1:
            self.more_than_one("mail", len(files), "in Badmail")
        return len(files)


def foreign(letters, sure, outcome, verdict):
    """What nobody sent, or nobody sent there."""
    places = [(c[0], c[1], c[2], "by SMTP") for c in outcome.copies]
    places += [(d[1], d[2], d[3], f"in Drop, {d[0]}") for d in outcome.drop]
    places += [(b[1], b[2], b[3], f"in Badmail, {b[0]}") for b in outcome.badmail]
    for name, kind, to, where in places:
        letter = letters.get(name)
        if letter is None:
            if sure == set(letters):
                verdict.add("damaged", f"something that nobody wrote {where}")
        elif kind == "mail":
            if strange := set(to) - set(letter.ends):
                verdict.add("wrong recipient", f"{name} to {sorted(strange)} {where}")
        elif "Badmail" in where or set(to) - {letter.sender}:
            verdict.add("wrong recipient", f"{kind} about {name} to {to} {where}")
