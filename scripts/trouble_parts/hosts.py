"""The other side: mail hosts and a DNS server on loopback that behave as they are told.

One thread with an event loop serves all of them. A host keeps its port from its beginning to its end, whatever it does
there: a port that is bound and not listened to refuses, as a host that is down does.
"""

import asyncio
import itertools
import random
import re
import socket
import struct
import threading
import time


# Below the ports that the system gives to connections: a host that is down for a while must find its port again.
PORTS = itertools.count(random.randrange(10000, 25000))
CHOOSING = threading.Lock()


def free_port(bound):
    """A port that nobody has and that is given to nobody else here."""
    while True:
        with CHOOSING:
            port = next(PORTS)
        try:
            one = bound(port)
            if one.type == socket.SOCK_STREAM:
                one.listen()  # that others refuse there shows only now
            one.close()
            return port
        except OSError:
            continue


def bound_again(bound, port):
    """For a host that comes back; what others do with its number for a moment is waited for."""
    until = time.monotonic() + 20
    while True:
        try:
            return bound(port)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class Network:
    """Runs what is given to it on the thread of the event loop."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)


class Host:
    """A mail host. `mode`: good, refused, hole (a connection is never accepted), silent (no greeting), stall (after
    354), drip (a byte a second)."""

    def __init__(self, network, mode="good"):
        self.network, self.mode = network, None
        self.copies = []  # (letter, whole, recipients)
        self.seen = set()
        self.server, self.fillers, self.sessions = None, [], set()
        self.port = free_port(self.bound)
        self.socket = bound_again(self.bound, self.port)
        self.become(mode)

    @staticmethod
    def bound(port):
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
        return one

    def become(self, mode):
        self.network.do(self.change(mode))

    def close(self):
        self.network.do(self.shut())

    async def change(self, mode):
        # What a host has on the wire ends when it changes: that is what being restarted does.
        if self.mode:
            await self.shut()
            self.socket = bound_again(self.bound, self.port)
        self.mode = mode
        if mode == "hole":
            self.socket.listen(0)
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                try:
                    filler.connect(("127.0.0.1", self.port))
                except BlockingIOError:
                    pass
                self.fillers.append(filler)
        elif mode != "refused":
            self.server = await asyncio.start_server(self.serve, sock=self.socket, limit=1 << 22)

    async def shut(self):
        for session in list(self.sessions):
            session.cancel()
        if self.server:
            self.server.close()
            self.server = None
        self.socket.close()
        for filler in self.fillers:
            filler.close()
        self.fillers = []

    async def serve(self, reader, writer):
        self.sessions.add(asyncio.current_task())
        try:
            await self.talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            pass
        finally:
            self.sessions.discard(asyncio.current_task())
            writer.transport.abort()

    async def talk(self, reader, writer):
        mode = self.mode

        async def say(line):
            for piece in [bytes([byte]) for byte in line + b"\r\n"] if mode == "drip" else [line + b"\r\n"]:
                writer.write(piece)
                await writer.drain()
                if mode == "drip":
                    await asyncio.sleep(1)

        if mode == "silent":
            await asyncio.sleep(3600)
        await say(b"220 sink ESMTP")
        recipients = []
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                await say(b"250-sink\r\n250-8BITMIME\r\n250 PIPELINING")
            elif verb == b"RCPT":
                address = re.search(rb"<(.*?)>", line)[1].decode()
                if address.startswith("refuse"):
                    await say(b"550 5.1.1 no such user")
                elif address.startswith("later") and address not in self.seen:
                    self.seen.add(address)
                    await say(b"451 4.3.0 later")
                else:
                    recipients.append(address)
                    await say(b"250 2.1.5 ok")
            elif verb == b"DATA":
                if not recipients:
                    await say(b"503 5.5.1 no recipients")
                    continue
                await say(b"354 go on")
                if mode == "stall":
                    await asyncio.sleep(3600)
                content = await reader.readuntil(b"\r\n.\r\n")
                letter = re.search(rb"^X-Letter: (\S+)", content, re.M)
                name = letter[1].decode() if letter else "?"
                self.copies.append((name, f"the end of {name}.".encode() in content, recipients))
                recipients = []
                await say(b"250 2.0.0 taken")
            elif verb == b"QUIT":
                await say(b"221 2.0.0 bye")
                return
            else:
                recipients = []
                await say(b"250 2.0.0 ok")


class Names(asyncio.DatagramProtocol):
    """A DNS server: *.mx.test has one MX, whose address is 127.0.0.1. `mode`: good, closed, hole (never answers)."""

    def __init__(self, network, mode="good"):
        self.network, self.mode, self.transport = network, None, None
        self.port = free_port(self.bound)
        self.become(mode)

    @staticmethod
    def bound(port):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", port))
        return one

    def become(self, mode):
        self.network.do(self.change(mode))

    def close(self):
        self.become("closed")

    async def change(self, mode):
        if self.transport:
            self.transport.abort()
            self.transport = None
            await asyncio.sleep(0.01)
        self.mode = mode
        if mode != "closed":
            self.transport, _ = await self.network.loop.create_datagram_endpoint(lambda: self, sock=self.bound(self.port))

    def datagram_received(self, data, sender):
        if self.mode == "good" and self.transport:
            self.transport.sendto(answer(data), sender)


def answer(question):
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode().lower())
        at += 1 + question[at]
    name, kind = ".".join(labels), struct.unpack(">H", question[at + 1:at + 3])[0]
    record = b""
    if kind == 15 and name.endswith("mx.test") and not name.startswith("host."):
        record = struct.pack(">H", 10) + b"\x04host\x02mx\x04test\x00"
    elif kind == 1 and name == "host.mx.test":
        record = socket.inet_aton("127.0.0.1")
    head = question[:2] + struct.pack(">HHHHH", 0x8580, 1, 1 if record else 0, 0, 0)
    asked = question[12:at + 5]
    # One second to live: what was true is asked again.
    found = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(record)) + record if record else b""
    return head + asked + found
