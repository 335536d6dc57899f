"""The mail hosts of a batch: they stand while the engine is killed and started again, and remember what they took.

What they say to a recipient is decided by how its address begins:
  no, refuser  550 to RCPT           later     451 to the first RCPT, then 250
  never        451 always            gate      451 until `open` is set
  shut         550 until `open` is set
  dotno        554 to the content    dotlater  452 to the first content, then 250
  anything else is taken.
"""

import socket
import threading
import time
from dataclasses import dataclass

OFFERS = {0: ["PIPELINING", "8BITMIME", "CHUNKING", "SIZE 104857600", "ENHANCEDSTATUSCODES"],
          1: ["8BITMIME", "ENHANCEDSTATUSCODES"],
          2: ["PIPELINING", "8BITMIME", "SIZE 104857600"]}


@dataclass
class Accepted:
    """A message that a host has wholly received and said 250 to, or would have if the client had lived."""

    port: int
    end: int
    sender: str
    recipients: list
    content: bytes
    chunking: bool


class Sink:
    """Three hosts on loopback, each with its own port and abilities."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reset()
        self.listeners = []
        for host in OFFERS:
            listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            self.listeners.append(listener)
            threading.Thread(target=self.listen, args=(listener, host), daemon=True).start()
        self.ports = [one.getsockname()[1] for one in self.listeners]

    def reset(self):
        with self.lock:
            for connection in getattr(self, "connections", ()):
                connection.close()
            self.connections = set()
            self.accepted = []
            self.asked = {}
            self.open = False

    def close(self):
        for one in self.listeners:
            one.close()

    def wait_until_hung_up(self, seconds):
        """The engine is gone: what it had sent is read to its end."""
        until = time.monotonic() + seconds
        while self.connections and time.monotonic() < until:
            time.sleep(0.001)
        return not self.connections

    def listen(self, listener, host):
        while True:
            try:
                client, address = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = Talk(self, client, address[1], host)
            with self.lock:
                self.connections.add(talk)
            threading.Thread(target=talk.run, daemon=True).start()

    def first(self, address):
        with self.lock:
            self.asked[address] = self.asked.get(address, 0) + 1
            return self.asked[address] == 1

    def to_recipient(self, address):
        name = address.partition("@")[0]
        if name.startswith(("no", "refuser")):
            return "550 5.1.1 no such user"
        if name.startswith("shut") and not self.open:
            return "550 5.2.1 shut"
        if name.startswith("never") or (name.startswith("gate") and not self.open):
            return "451 4.3.0 not now"
        if name.startswith("later") and self.first(address):
            return "451 4.3.0 come back later"
        return "250 2.1.5 ok"

    def to_content(self, recipients):
        names = [one.partition("@")[0] for one in recipients]
        if any(name.startswith("dotno") for name in names):
            return "554 5.6.0 not this"
        if any(name.startswith("dotlater") for name in names) and self.first("content " + recipients[0]):
            return "452 4.2.2 no room at present"
        return "250 2.0.0 taken"


class Talk:
    """One connection."""

    def __init__(self, sink, client, port, host):
        self.sink, self.client, self.port, self.host = sink, client, port, host
        self.file = client.makefile("rb")
        self.got = 0
        self.sender, self.recipients, self.content = "", [], b""

    def close(self):
        try:
            self.client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def run(self):
        try:
            self.say("220 sink.test ESMTP")
            while self.serve(self.line()):
                pass
        except (OSError, EOFError, ValueError):
            pass
        finally:
            self.file.close()
            self.client.close()
            with self.sink.lock:
                self.sink.connections.discard(self)

    def line(self):
        line = self.file.readline()
        self.got += len(line)
        if not line.endswith(b"\r\n"):
            raise EOFError
        return line[:-2]

    def say(self, reply):
        self.client.sendall(reply.encode() + b"\r\n")

    def serve(self, line):
        verb, _, rest = line.decode().partition(" ")
        verb = verb.upper()
        if verb == "EHLO":
            words = ["sink.test", *OFFERS[self.host]]
            self.say("\r\n".join(f"250{' ' if word is words[-1] else '-'}{word}" for word in words))
        elif verb in ("MAIL", "RSET"):
            self.sender, self.recipients, self.content = inside(rest), [], b""
            self.say("250 2.1.0 ok")
        elif verb == "RCPT":
            address = inside(rest)
            reply = self.sink.to_recipient(address)
            if reply[0] == "2":
                self.recipients.append(address)
            self.say(reply)
        elif verb == "DATA":
            if not self.recipients:
                self.say("503 5.5.1 nobody to get it")
                return True
            self.say("354 go on")
            lines = []
            while (line := self.line()) != b".":
                lines.append((line[1:] if line.startswith(b".") else line) + b"\r\n")
            self.content = b"".join(lines)
            self.end()
        elif verb == "BDAT":
            size, _, last = rest.partition(" ")
            chunk = self.file.read(int(size))
            self.got += len(chunk)
            if len(chunk) != int(size):
                raise EOFError
            self.content += chunk
            if not self.recipients:
                self.say("503 5.5.1 nobody to get it")
            elif last:
                self.end()
            else:
                self.say("250 2.0.0 go on")
        elif verb == "QUIT":
            self.say("221 2.0.0 bye")
            return False
        else:
            self.say("250 2.0.0 ok")
        return True

    def end(self):
        """The whole content is here: from now on it is ours, whether the client hears of it or not."""
        reply = self.sink.to_content(self.recipients)
        if reply[0] == "2":
            with self.sink.lock:
                if self in self.sink.connections:
                    self.sink.accepted.append(
                        Accepted(self.port, self.got, self.sender, self.recipients, self.content, "CHUNKING" in OFFERS[self.host]))
        self.recipients, self.content = [], b""
        self.say(reply)


def inside(text):
    return text.partition("<")[2].partition(">")[0]
