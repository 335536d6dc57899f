"""What the nodes share, and how it goes away.

Every machine sees it at the same path (`mount_point`), by a mount of its own. The script looks at it by `view`.
"""

import contextlib
import os
import shutil
import time

from .machine import Trouble, end, run, wait

IMAGE_BYTES = 4 << 30  # sparse


class Local:
    """One ext4 in a loop-mounted image; each machine has a bind mount of its own."""
    name = "local"
    words = "ext4, one kernel, a mount per node"
    #: How it goes away: frozen, all writes hang; unmounted, an empty folder lies there.
    losses = ("frozen", "unmounted")
    can_cut = False

    def __init__(self, network, folder):
        self.folder = folder / "local"
        self.mount_point = self.folder / "shared"
        self.disk = self.folder / "disk"
        self.machines = []
        self.mounted = False

    def begin(self):
        self.mount_point.mkdir(parents=True)
        self.disk.mkdir()
        image = self.folder / "disk.img"
        with open(image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        run("mount", "-o", "loop", image, self.disk)
        self.mounted = True
        self.view = self.disk

    def attach(self, machine):
        # Before the first: the namespace has a private copy of our mounts only if it was made after `begin`.
        if not machine.path(self.disk).is_mount():
            raise Trouble(f"{machine.name} does not see {self.disk}")
        machine.run("mount", "--bind", self.disk, self.mount_point)
        self.machines.append(machine)

    def lose(self, how):
        if how == "frozen":
            run("fsfreeze", "-f", self.disk)
        else:
            for machine in self.machines:
                machine.run("umount", "-l", self.mount_point)

    def find(self, how):
        if how == "frozen":
            run("fsfreeze", "-u", self.disk)
        else:
            for machine in self.machines:
                machine.run("mount", "--bind", self.disk, self.mount_point)

    def end(self):
        if not self.mounted:
            return
        run("fsfreeze", "-u", self.disk, check=False)
        for machine in self.machines:
            machine.end()  # its mounts keep the disk busy
        for _ in range(40):
            run("umount", self.disk, check=False)
            if not os.path.ismount(self.disk):
                return
            time.sleep(0.25)
        run("umount", "-l", self.disk, check=False)


class Gluster:
    """A replica 3 volume: each server in a network and process namespace of its own, a FUSE mount per node."""
    name = "gluster"
    losses = ("cut off",)
    can_cut = True

    def __init__(self, network, folder):
        self.network = network
        self.folder = folder / "gluster"
        self.mount_point = self.folder / "shared"
        self.servers, self.clients = [], []

    @staticmethod
    def why_not():
        missing = [tool for tool in ("glusterd", "glusterfs", "gluster") if not shutil.which(tool)]
        if missing:
            return f"not found: {', '.join(missing)} (packages glusterfs-server glusterfs-client)"
        return None if os.path.exists("/dev/fuse") else "there is no /dev/fuse"

    def begin(self):
        self.mount_point.mkdir(parents=True)
        for number in (1, 2, 3):
            self.servers.append(self._server(f"store{number}"))
        first = self.servers[0]
        ask = lambda *words: first.run("gluster", "--mode=script", *words)  # noqa: E731
        for server in self.servers[1:]:
            wait("a server to join", 30, lambda s=server: "success" in first.run("gluster", "--mode=script", "peer", "probe", s.address, check=False), 0.5)
        wait("servers to know each other", 30, lambda: ask("peer", "status").count("Peer in Cluster (Connected)") == 2, 0.5)
        bricks = [f"{server.address}:{self.folder}/{server.name}/brick" for server in self.servers]
        ask("volume", "create", "shared", "replica", "3", *bricks, "force")
        ask("volume", "start", "shared")
        wait("all bricks", 30, lambda: ask("volume", "status", "shared").count(" Y ") >= 6, 0.5)
        self.words = f"GlusterFS {run('glusterfs', '--version').split()[1]}, replica 3, a FUSE mount per node"
        self.clerk = self.network.machine("clerk")
        self.attach(self.clerk)
        self.view = self.clerk.path(self.mount_point)

    def _server(self, name):
        machine = self.network.machine(name, own_pids=True)
        own = self.folder / name
        for part in ("lib", "log", "brick"):
            (own / part).mkdir(parents=True)
        machine.run("mkdir", "-p", "/var/lib/glusterd", "/var/log/glusterfs")
        machine.run("mount", "--bind", own / "lib", "/var/lib/glusterd")
        machine.run("mount", "--bind", own / "log", "/var/log/glusterfs")
        machine.run("mount", "-t", "tmpfs", "tmpfs", "/run")
        machine.start("glusterd", "-N", log=own / "glusterd.out")
        wait(f"glusterd of {name}", 30, lambda: "Number of Peers" in machine.run("gluster", "peer", "status", check=False), 0.5)
        return machine

    def attach(self, machine):
        log = self.folder / f"{machine.name}.client.log"
        command = ["glusterfs", "-N", "-l", log, f"--volfile-server={self.servers[0].address}", "--volfile-id=/shared", self.mount_point]
        client = machine.start(*command, log=self.folder / f"{machine.name}.client.out")
        self.clients.append((machine, client))
        wait(f"the mount of {machine.name}", 30, lambda: machine.path(self.mount_point).is_mount(), 0.2)
        wait(f"the volume at {machine.name}", 30, lambda: self._usable(machine), 0.3)

    def _usable(self, machine):
        probe = machine.path(self.mount_point) / f"probe-{machine.name}"
        with contextlib.suppress(OSError):
            probe.write_text("x")
            probe.unlink()
            return True
        return False

    def lose(self, _):
        for server in self.servers:
            server.cut()

    def find(self, _):
        for server in self.servers:
            server.heal()

    def end(self):
        for machine, client in self.clients:
            machine.run("umount", "-l", self.mount_point, check=False, timeout=20)
            end(client)
        for server in self.servers:
            server.end()
