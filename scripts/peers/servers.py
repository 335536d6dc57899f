"""BIND, Postfix and Exim, each with settings, queue and mailboxes of its own below the temporary folder."""

import os
import pwd
import shutil

from . import scene
from .machine import listening, run, write

MAILBOX_USER = pwd.getpwnam("nobody")


def start_named(packages, processes, folder, port):
    named = packages.unpacked("named", "bind9")
    write(folder / "named/root.zone", scene.zone())
    write(folder / "named/named.conf", f"""
options {{
    directory "{folder}/named";
    listen-on port {port} {{ {scene.DNS_SERVER}; }};
    listen-on-v6 {{ none; }};
    pid-file none; session-keyfile none; lock-file none;
    recursion no; dnssec-validation no; notify no; empty-zones-enable no;
}};
controls {{ }};
zone "." {{ type primary; file "root.zone"; }};
zone "{scene.BROKEN}" {{ type primary; file "missing.zone"; }};
""")
    process = processes.start("named", named, "-g", "-c", folder / "named/named.conf")
    processes.ready("named", process, 30, lambda: listening(scene.DNS_SERVER, port))


class Postfix:
    """One Postfix that plays many hosts: a line of master.cf each."""

    def __init__(self, packages, folder, port, certificates, users):
        self.folder, self.port, self.mail = folder / "postfix", port, folder / "postfix-mail"
        install_postfix(packages)
        self.saslpasswd = packages.unpacked("saslpasswd2", "sasl2-bin")
        for part in ("etc", "data", "queue"):
            (self.folder / part).mkdir(parents=True)
        owner = pwd.getpwnam("postfix")
        os.chown(self.folder / "data", owner.pw_uid, owner.pw_gid)
        self.mail.mkdir()
        os.chown(self.mail, MAILBOX_USER.pw_uid, MAILBOX_USER.pw_gid)
        self.log = self.folder / "mail.log"
        self.passwords(owner)
        write(self.folder / "etc/mailboxes", "".join(f"{user} {user}/\n" for user in users), 0o644)
        write(self.folder / "etc/main.cf", self.main_cf(certificates, sorted({u.split("@")[1] for u in users})))
        write(self.folder / "etc/master.cf", self.master_cf(certificates))

    def passwords(self, owner):
        """The users that may log in, in a database that holds them in clear: CRAM-MD5 needs that."""
        base = self.folder / "etc/sasl"  # where Debian's Postfix looks, whatever cyrus_sasl_config_path says
        write(base / "smtpd.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5\n"
              f"sasldb_path: {base}/users\nlog_level: 0\n")
        user, realm = scene.USER.split("@")
        run(self.saslpasswd, "-p", "-c", "-f", base / "users", "-u", realm, user, given=scene.PASSWORD.encode())
        os.chown(base / "users", owner.pw_uid, owner.pw_gid)

    def main_cf(self, certificates, domains):
        pem = certificates.host(scene.POSTFIX)
        return f"""compatibility_level = 3.6
queue_directory = {self.folder}/queue
data_directory = {self.folder}/data
maillog_file = {self.log}
maillog_file_prefixes = {self.folder}
myhostname = {scene.POSTFIX}
mydestination =
mynetworks =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
# what is not for our mailboxes (a report to a far sender) goes nowhere
default_transport = discard
relay_transport = discard
smtp_host_lookup = native
virtual_mailbox_domains = {', '.join(domains)}
virtual_mailbox_maps = texthash:{self.folder}/etc/mailboxes
virtual_mailbox_base = {self.mail}
virtual_uid_maps = static:{MAILBOX_USER.pw_uid}
virtual_gid_maps = static:{MAILBOX_USER.pw_gid}
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
# else Postfix takes Bcc out, and nobody would see who did not
message_drop_headers =
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = may
smtpd_tls_chain_files = {pem}
smtpd_tls_received_header = yes
cyrus_sasl_config_path = {self.folder}/etc/sasl
smtpd_sasl_local_domain =
smtputf8_enable = yes
smtputf8_autodetect_classes = all
line_length_limit = 4096
"""

    def master_cf(self, certificates):
        def smtpd(host, *options, port=self.port):
            words = "".join(f"  -o {option}\n" for option in options)
            return f"{scene.HOSTS[host]}:{port} inet n - n - - smtpd\n  -o myhostname={host}\n  -o syslog_name={host}\n{words}"

        def pem(host, **how):
            return f"smtpd_tls_chain_files={certificates.host(host, **how)}"

        members_only = ["smtpd_sasl_auth_enable=yes", "smtpd_tls_auth_only=yes",
                        "{ smtpd_recipient_restrictions = permit_sasl_authenticated, reject }"]
        inet = [
            smtpd(scene.POSTFIX),
            smtpd(scene.SMART, pem(scene.SMART), *members_only),
            smtpd(scene.IMPLICIT, pem(scene.IMPLICIT), "smtpd_tls_wrappermode=yes", *members_only, port=self.port + 1),
            smtpd(scene.EXPIRED, pem(scene.EXPIRED, expired=True)),
            smtpd(scene.WRONG, pem(scene.WRONG, shown="somebody.else.test")),
            smtpd(scene.OLD, "smtpd_tls_security_level=none", "smtpd_discard_ehlo_keywords=chunking",
                  "smtpd_recipient_limit=5", "smtpd_recipient_overshoot_limit=1000", "message_size_limit=100000"),
            smtpd(scene.BARE, "smtpd_tls_security_level=none", "{ smtpd_discard_ehlo_keywords = chunking, 8bitmime, "
                  "smtputf8, dsn, pipelining, size, etrn, vrfy, enhancedstatuscodes }"),
        ]
        return "".join(inet) + """pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

    def start(self, processes):
        command = ["postfix", "-c", self.folder / "etc"]
        process = processes.start("postfix", *command, "start-fg", stop=[*command, "stop"])
        processes.ready("postfix", process, 60, lambda: all(
            listening(address, self.port + (host == scene.IMPLICIT))
            for host, address in scene.HOSTS.items() if host not in (scene.EXIM, scene.DOWN)))

    def logged(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def install_postfix(packages):
    """Postfix without settings of its own, so that it does not start by itself."""
    if shutil.which("postfix"):
        packages.install("libsasl2-modules", "libsasl2-modules-db")
        return
    packages.update()
    packages.install("debconf")
    run("debconf-set-selections", given=b"postfix postfix/main_mailer_type select No configuration\n")
    packages.install("postfix", "libsasl2-modules", "libsasl2-modules-db")


def make_user(name):
    """What installing the package would have done, and all that unpacking it does not."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        run("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell",
            "/usr/sbin/nologin", name)


class Exim:
    """Exim as a receiving host."""

    def __init__(self, packages, folder, port, certificates, users):
        self.folder, self.port, self.mail = folder / "exim", port, folder / "exim-mail"
        self.program = packages.unpacked("exim4", "exim4-daemon-light", "exim4-base")
        make_user("Debian-exim")  # Debian's Exim looks for it, whatever its settings say
        for part in (self.folder, self.folder / "spool", self.mail):
            part.mkdir(parents=True)
            os.chown(part, MAILBOX_USER.pw_uid, MAILBOX_USER.pw_gid)
        pem = certificates.host(scene.EXIM)
        os.chown(pem, MAILBOX_USER.pw_uid, MAILBOX_USER.pw_gid)
        domains = " : ".join(sorted({user.split("@")[1] for user in users}))
        # what comes out of a file may name a folder; what a client said may not ("tainted")
        boxes = write(self.folder / "mailboxes", "".join(f"{user}: {user}\n" for user in users))
        self.conf = write(self.folder / "exim.conf", f"""primary_hostname = {scene.EXIM}
exim_user = {MAILBOX_USER.pw_name}
exim_group = nogroup
exim_path = {self.program}
keep_environment =
spool_directory = {self.folder}/spool
pid_file_path = {self.folder}/spool/exim.pid
log_file_path = {self.folder}/%slog
log_selector = +received_recipients +tls_cipher +smtp_connection
local_interfaces = <; [{scene.HOSTS[scene.EXIM]}]:{port}
daemon_smtp_ports = {port}
never_users =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = {pem}
tls_privatekey = {pem}
dsn_advertise_hosts = *
chunking_advertise_hosts = *
smtp_accept_max_per_host = 100
smtp_accept_max = 200
smtp_enforce_sync = true
acl_smtp_rcpt = rcpt
acl_smtp_data = content
begin acl
rcpt:
  deny message = relay not permitted
    !domains = {domains}
  require verify = recipient
  accept
content:
  accept
begin routers
mailboxes:
  driver = accept
  domains = {domains}
  address_data = ${{lookup{{${{lc:$local_part@$domain}}}}lsearch{{{boxes}}}{{$value}}fail}}
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {self.mail}/$address_data
  maildir_format
  create_directory
  user = {MAILBOX_USER.pw_name}
  group = nogroup
  mode = 0644
  return_path_add
  delivery_date_add
  envelope_to_add
""")

    def start(self, processes):
        process = processes.start("exim", self.program, "-C", self.conf, "-bdf", "-q10s")
        processes.ready("exim", process, 30, lambda: listening(scene.HOSTS[scene.EXIM], self.port))

    def logged(self):
        log = self.folder / "mainlog"
        return log.read_text(errors="replace") if log.exists() else ""


def arrived(base, user):
    """The messages in a mailbox (Maildir) of a peer, as bytes."""
    folder = base / user / "new"
    return [file.read_bytes() for file in sorted(folder.iterdir())] if folder.is_dir() else []
