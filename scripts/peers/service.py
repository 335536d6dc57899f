"""The real mailroot on a temporary tree, and what can be read there."""

import email
import email.policy
import json
import re
import subprocess

from . import scene
from .letters import put
from .machine import Trouble, run, write

COMMON = """[server]
hostname = "{local}"
[domains]
default = "{local}"
[pickup]
poll = "500ms"
[delivery]
port = {port}
tls_ca_file = "{ca}"
connect_timeout = "10s"
timeout = "30s"
max_connections_per_domain = 2
{delivery}
[dns]
servers = ["{dns}:{port}"]
"""


class Mailroot:
    def __init__(self, program, folder, port, ca, delivery="", remotes=""):
        self.program, self.root = program, folder
        run(program, "init", folder)
        write(folder / "smart-host.password", scene.PASSWORD + "\n", 0o600)
        common = COMMON.format(local=scene.LOCAL, port=port, ca=ca, dns=scene.DNS_SERVER, delivery=delivery)
        write(folder / "mailroot.toml", common + remotes)
        self.log = folder.parent / f"{folder.name}.log"

    def start(self, processes):
        self.process = processes.start(self.root.name, self.program, "run", self.root, "--log", "json")

    def drain(self):
        """Drains; the exit code."""
        with open(self.log, "ab") as log:
            return subprocess.run([str(self.program), "drain", str(self.root), "--log", "json"], stderr=log, timeout=120).returncode

    def check(self):
        done = subprocess.run([str(self.program), "check", str(self.root)], capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def put(self, letter):
        put(self.root / "Pickup", letter)

    def events(self):
        """The log, one dictionary per line."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def idents(self):
        """Pickup file name → ID."""
        found = {}
        for event in self.events():
            fields = {**event, **event.get("fields", {})}
            if "file" in fields and "id" in fields:
                found.setdefault(fields["file"], fields["id"])
        return found

    def waiting(self, ident):
        """The text of the ENV of a message that waits, or nothing."""
        folder = self.root / "Queue"
        env = folder / f"{ident}.ENV"
        try:
            return env.read_text() if (folder / f"{ident}.EML").exists() else ""
        except FileNotFoundError:
            return ""

    def transcript(self, ident):
        file = self.root / "Queue" / f"{ident}.RTR"
        return file.read_text(errors="replace") if file.exists() else ""

    def reports(self):
        """What lies in Drop: (bytes, list of (recipient, action, status, diagnostic)) of each delivery report."""
        found = []
        for file in sorted((self.root / "Drop").glob("*.EML")):
            raw = file.read_bytes()
            message = email.message_from_bytes(raw, policy=email.policy.default)
            if message.get_content_type() == "multipart/report":
                found.append((message, recipients(message)))
        return found


def recipients(report):
    """The recipients that a report (RFC 3464) names, as Python's own parser sees them."""
    kinds = [part.get_content_type() for part in report.iter_parts()]
    if kinds[:2] != ["text/plain", "message/delivery-status"]:
        raise Trouble(f"a report has the parts {kinds}")
    blocks = list(report.iter_parts())[1].get_payload()
    return [(re.sub(r"^[^;]*;\s*", "", str(block["Final-Recipient"])), str(block["Action"]), str(block["Status"]),
             str(block["Diagnostic-Code"])) for block in blocks[1:]]
