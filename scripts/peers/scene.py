"""The scene: names, addresses, certificates. One table that DNS, the mail servers and the cases share."""

from .machine import run, write

# Hosts: name → address on loopback. All listen on the same port, which is mailroot's `delivery.port`.
POSTFIX = "mx.postfix.test"  # an ordinary host of today: STARTTLS, CHUNKING, 8BITMIME, SMTPUTF8, DSN
EXIM = "mx.exim.test"  # another make
DOWN = "down.peers.test"  # in DNS, but nobody listens
SMART = "smart.postfix.test"  # takes mail only after AUTH, and AUTH only under TLS
EXPIRED = "expired.postfix.test"  # the certificate was valid once
WRONG = "wrong.postfix.test"  # the certificate is somebody else's
OLD = "old.postfix.test"  # no TLS, no CHUNKING; small messages, few recipients
BARE = "bare.postfix.test"  # no extension at all
IMPLICIT = "implicit.postfix.test"  # TLS from the first byte, on a port of its own

HOSTS = {
    POSTFIX: "127.0.0.2", EXIM: "127.0.0.3", DOWN: "127.0.0.4", SMART: "127.0.0.5", EXPIRED: "127.0.0.6",
    WRONG: "127.0.0.7", OLD: "127.0.0.8", BARE: "127.0.0.9", IMPLICIT: "127.0.0.10",
}
DNS_SERVER = "127.0.0.1"

# Mail domains: name → MX records. `None`: no MX, only an address. The sample files are for example.net and example.org.
DOMAINS = {
    "second.test": [(10, DOWN), (20, POSTFIX)],
    "postfix.test": [(10, POSTFIX)],
    "address.test": None,
    "exim.test": [(10, EXIM)],
    "example.net": [(10, POSTFIX)],
    "web1.example.net": [(10, POSTFIX)],
    "example.org": [(10, EXIM)],
    "old.test": [(10, OLD)],
    "bare.test": [(10, BARE)],
    "expired.test": [(10, EXPIRED)],
    "wrong.test": [(10, WRONG)],
    "careless.test": [(10, EXPIRED)],  # the same host, but mailroot is not told to verify
    "required.test": [(10, EXPIRED)],
    "clear.test": [(10, OLD)],
    "nomail.test": [(0, ".")],
    "down.test": [(10, DOWN)],
}
ALIAS = ("alias.test", "postfix.test")  # a CNAME
BROKEN = "broken.test"  # a zone that the server has and cannot read: SERVFAIL
# Domains that mailroot's settings route to a smart host; DNS has no MX for them.
BY_SMART_HOST = ["plain.test", "login.test", "cram.test", "best.test", "stranger.test", "implicit.test"]

LOCAL = "mailroot.test"  # mailroot's own domain
USER, PASSWORD = f"app@{SMART}", "pass word with ünusual = characters"


def zone():
    """Everything that exists, as one root zone: what is not in it does not exist."""
    lines = ["$TTL 60", ". IN SOA ns.peers.test. hostmaster.peers.test. 1 3600 600 86400 1", ". IN NS ns.peers.test.",
             f"ns.peers.test. IN A {DNS_SERVER}"]
    lines += [f"{name}. IN A {address}" for name, address in HOSTS.items()]
    for name, records in DOMAINS.items():
        if records is None:
            lines.append(f"{name}. IN A {HOSTS[POSTFIX]}")
        for preference, host in records or []:
            lines.append(f"{name}. IN MX {preference} {host.rstrip('.')}.")
    lines.append(f"{ALIAS[0]}. IN CNAME {ALIAS[1]}.")
    lines.append(f"{BROKEN}. IN NS ns.peers.test.")
    return "\n".join(lines) + "\n"


class Certificates:
    """An authority of our own, and a certificate with key in one PEM file for each host."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.ca = folder / "ca.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", "/CN=real-peers test authority", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", folder / "ca.key", "-out", self.ca)
        write(folder / "index.txt", "")
        write(folder / "serial", "01\n")
        write(folder / "ca.cnf", f"""[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
certificate = {self.ca}
private_key = {folder}/ca.key
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
""")

    def host(self, name, shown=None, expired=False):
        """PEM file (key, then certificate) of a host; `shown`: the name in the certificate, if another."""
        shown = shown or name
        key, request, cert = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={shown}", "-addext", f"subjectAltName=DNS:{shown}",
            "-keyout", key, "-out", request)
        dates = ["20200101000000Z", "20210101000000Z"] if expired else ["20200101000000Z", "20491231235959Z"]
        run("openssl", "ca", "-batch", "-notext", "-config", self.folder / "ca.cnf", "-in", request, "-out", cert,
            "-startdate", dates[0], "-enddate", dates[1])
        return write(self.folder / f"{name}.pem", key.read_bytes() + cert.read_bytes(), 0o600)
