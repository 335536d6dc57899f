#!/usr/bin/env python3
"""The host that all nodes send to; writes down what it answered for.

    sink.py ADDRESS RECORD [--delay SECONDS]     prints its port

Started by scripts/cluster. Lines of RECORD, times by the monotonic clock:
    open TIME NODE               a connection
    close TIME NODE
    mail TIME NODE CONNECTION    a transaction has begun
    end TIME NODE CONNECTION     and is over, with or without a message
    got TIME NODE SENDER RECIPIENT MESSAGE-ID     before the 250 is sent

Recipients whose name begins with `refused` get 550, those with `later` 451 when they are named for the first time.
"""

import argparse
import asyncio
import re
import time

MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
PATH = re.compile(rb":\s*<([^>]*)>")


class Record:
    def __init__(self, path):
        self.file = open(path, "a", buffering=1 << 16)

    def note(self, kind, *words):
        self.file.write(f"{kind} {time.monotonic():.4f} {' '.join(str(word) for word in words)}\n")

    async def keep(self):
        while True:
            await asyncio.sleep(0.05)
            self.file.flush()


class Host(asyncio.Protocol):
    connections = 0
    seen_later = set()

    def __init__(self, record, delay):
        self.record, self.delay = record, delay
        Host.connections += 1
        self.number = Host.connections
        self.buffer = bytearray()
        self.data = False
        self.busy = False  # a message is being "stored": what was pipelined after it waits
        self.sender, self.recipients, self.begun = None, [], False

    def connection_made(self, transport):
        self.transport = transport
        self.node = transport.get_extra_info("peername")[0]
        self.record.note("open", self.node)
        self.say("220 sink.test ESMTP")

    def connection_lost(self, _):
        self.over()
        self.record.note("close", self.node)

    def say(self, line):
        self.transport.write(line.encode() + b"\r\n")

    def over(self):
        if self.begun:
            self.record.note("end", self.node, self.number)
        self.sender, self.recipients, self.begun = None, [], False

    def data_received(self, data):
        self.buffer += data
        self.go_on()

    def go_on(self):
        while not self.busy:
            if self.data:
                if self.buffer[:3] == b".\r\n":
                    at = -2
                else:
                    at = self.buffer.find(b"\r\n.\r\n")
                    if at < 0:
                        return
                content = bytes(self.buffer[:max(at, 0) + 2])
                del self.buffer[:at + 5]
                self.data, self.busy = False, True
                asyncio.get_running_loop().call_later(self.delay, self.store, content)
                return
            at = self.buffer.find(b"\r\n")
            if at < 0:
                return
            line = bytes(self.buffer[:at])
            del self.buffer[:at + 2]
            self.command(line)

    def store(self, content):
        self.busy = False
        if self.transport.is_closing():
            return
        head = content.split(b"\r\n\r\n", 1)[0]
        found = MESSAGE_ID.search(head)
        ident = found.group(1).decode() if found else "-"
        for recipient in self.recipients:
            self.record.note("got", self.node, self.sender or "<>", recipient, ident)
        self.over()
        self.say("250 2.0.0 taken")
        self.go_on()

    def command(self, line):
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.say("250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES")
        elif verb == b"HELO":
            self.say("250 sink.test")
        elif verb == b"MAIL":
            self.over()
            self.begun = True
            self.record.note("mail", self.node, self.number)
            self.sender = PATH.search(line).group(1).decode()
            self.say("250 2.1.0 ok")
        elif verb == b"RCPT":
            self.recipient(PATH.search(line).group(1).decode())
        elif verb == b"DATA":
            if not self.recipients:
                self.say("554 5.5.1 no recipient")
                return
            self.data = True
            self.say("354 go on")
        elif verb == b"RSET":
            self.over()
            self.say("250 2.0.0 ok")
        elif verb == b"NOOP":
            self.say("250 2.0.0 ok")
        elif verb == b"QUIT":
            self.say("221 2.0.0 bye")
            self.transport.close()
        else:
            self.say("502 5.5.1 what?")

    def recipient(self, address):
        if address.startswith("refused"):
            self.say("550 5.1.1 nobody of that name")
        elif address.startswith("later") and address not in self.seen_later:
            self.seen_later.add(address)
            self.say("451 4.2.0 come again")
        else:
            self.recipients.append(address)
            self.say("250 2.1.5 ok")


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("record")
    parser.add_argument("--delay", type=float, default=0.02)
    asked = parser.parse_args()
    record = Record(asked.record)
    server = await asyncio.get_running_loop().create_server(lambda: Host(record, asked.delay), asked.address, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await record.keep()


if __name__ == "__main__":
    asyncio.run(main())
