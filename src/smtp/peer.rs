//! The host to talk to, and the answer when no session came of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Auth, TlsMode};
use crate::mail::Outcome;
use crate::stop::Stop;

/// One host at one address, with everything that its route says about it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The name that was looked up (certificates are judged against it), or the address when none was.
    pub name: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// What we call ourselves in EHLO.
    pub helo_name: String,
    /// Say HELO, never EHLO.
    pub helo_only: bool,
    /// Whether to encrypt by STARTTLS.
    pub tls: TlsMode,
    /// TLS from the first byte, whatever `tls` says; `tls` then only says whether the certificate is judged.
    pub implicit_tls: bool,
    /// Log in with this.
    pub auth: Option<Auth>,
    /// Log in even when the connection is not encrypted.
    pub allow_plaintext_auth: bool,
    /// Until the TCP connection stands.
    pub connect_timeout: Duration,
    /// For each reply; the reply to the end of a message gets twice as long (RFC 5321 §4.5.3.2.6).
    pub timeout: Duration,
    /// What is said before anything else, as a line, and what must be heard: the other side is one of ours.
    pub knock: Option<(String, String)>,
    /// `Some` for MX routes: a greeting under this name is our own, so the message loops (5.4.6).
    pub own_name: Option<String>,
    /// Until the session stands nobody waits for this host any longer once this is set.
    pub stop: Stop,
}

impl Peer {
    /// `name[address]:port`, as it stands in outcomes, logs and transcripts.
    pub fn shown(&self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        let name = self.name.trim_start_matches('[').trim_end_matches(']');
        if name == ip.to_string() {
            format!("[{ip}]:{port}")
        } else {
            format!("{name}[{ip}]:{port}")
        }
    }
}

/// Why there is no session.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Deferred, or Failed for a loop.
    pub outcome: Outcome,
    /// At which step.
    pub kind: RefusedKind,
    /// What was said until then.
    pub dialogue: String,
}

/// The step that an opening stopped at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedKind {
    /// No connection, or it was lost, or the host fell silent.
    Unreachable,
    /// The host answered the connection, EHLO or HELO with a refusal, or with something that is no SMTP.
    Greeting,
    /// TLS is due and did not come about.
    Tls,
    /// Authentication is due and did not come about.
    Auth,
    /// The host is we ourselves.
    Loop,
}

#[cfg(test)]
mod tests {
    use super::super::tests::peer_at;

    #[test]
    fn a_host_is_shown_with_name_address_and_port() {
        let mut peer = peer_at("192.0.2.1:25".parse().unwrap());
        peer.name = "mx.example.net".into();
        assert_eq!(peer.shown(), "mx.example.net[192.0.2.1]:25");
        peer.name = "192.0.2.1".into();
        assert_eq!(peer.shown(), "[192.0.2.1]:25");
        peer.address = "[2001:db8::1]:2525".parse().unwrap();
        peer.name = "[2001:db8::1]".into();
        assert_eq!(peer.shown(), "[2001:db8::1]:2525");
    }
}
