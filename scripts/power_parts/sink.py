"""The mail host of a batch, on loopback. Its answer to a message says what it took, so that a trace holds that too.

What it says to a recipient is decided by how the address begins:
  refused  550 always          later   450 to the first two RCPT while `strict`, then 250
  never    450 always          second  550 to the first RCPT while `strict`, then 250
  stall    taken, but while it `stalls` the content is not answered
  anything else is taken.
"""

import socket
import threading
import time
from collections import Counter

from . import letters


class Sink:
    def __init__(self, bodies, chunking=False):
        self.bodies, self.chunking = bodies, chunking
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.stalled = threading.Event()
        self.reset(strict=True)
        threading.Thread(target=self.listen, daemon=True).start()

    def reset(self, strict):
        self.strict = self.stalls = strict
        self.asked = Counter()
        self.copies = []  # (letter, kind, addresses it went to, addresses it is about, whole)
        self.kept = []  # (when, the same): a moment before it was answered
        self.stalled.clear()

    def close(self):
        self.listener.close()

    def listen(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client):
        with client, client.makefile("rb") as lines:
            try:
                self.converse(client, lines)
            except OSError:
                pass

    def converse(self, client, lines):
        def say(text):
            client.sendall(text.encode() + b"\r\n")

        to = []
        say("220 sink.test ESMTP")
        while line := lines.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                more = "250-CHUNKING\r\n" if self.chunking else ""
                say(f"250-sink.test\r\n{more}250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 104857600")
            elif verb == b"RCPT":
                address = line.partition(b"<")[2].partition(b">")[0].decode()
                answer = self.to_recipient(address)
                if answer.startswith("250"):
                    to.append(address)
                say(answer)
            elif verb == b"DATA":
                if not to:
                    say("503 5.5.1 nobody")
                    continue
                say("354 go on")
                content = content_of(lines)
                if content is None:
                    return
                if self.stalls and any(a.startswith("stall") for a in to):
                    self.stalled.set()
                    lines.readline()  # until it hangs up
                    return
                say(self.keep(content, to))
                to = []
            elif verb == b"BDAT":
                _, size, last = line.split()  # short messages: one chunk
                content = lines.read(int(size))
                if len(content) != int(size) or last.upper() != b"LAST":
                    return
                say(self.keep(content, to) if to else "503 5.5.1 nobody")
                to = []
            elif verb == b"QUIT":
                say("221 2.0.0 bye")
                return
            else:
                to = [] if verb in (b"MAIL", b"RSET") else to
                say("250 2.0.0 ok")

    def to_recipient(self, address):
        self.asked[address] += 1
        times = self.asked[address]
        if address.startswith("refused") or (address.startswith("second") and self.strict and times == 1):
            return "550 5.1.1 no such user"
        if address.startswith("never") or (address.startswith("later") and self.strict and times <= 2):
            return "450 4.2.0 not now"
        return "250 2.1.5 ok"

    def keep(self, content, to):
        name, kind = letters.read(content)
        about = letters.told(content) if kind != "mail" else []
        whole = letters.is_whole(content, self.bodies)
        copy = (name, kind, tuple(to), tuple(about), whole)
        self.kept.append((time.monotonic(), copy))
        self.copies.append(copy)
        return f"250 2.0.0 kept letter={name} kind={kind} to={','.join(to)} about={','.join(about)} whole={int(whole)}"


def content_of(lines):
    content = []
    while (line := lines.readline()) != b".\r\n":
        if not line.endswith(b"\n"):
            return None
        content.append(line[1:] if line.startswith(b".") else line)
    return b"".join(content)
