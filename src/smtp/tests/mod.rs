use super::Peer;
use std::net::SocketAddr;
use std::time::Duration;
pub(super) fn peer_at(address: SocketAddr) -> Peer {
    Peer {
        name: "mx.test".into(),
        address,
        helo_name: "client.test".into(),
        helo_only: false,
        tls: crate::config::TlsMode::Off,
        implicit_tls: false,
        auth: None,
        allow_plaintext_auth: false,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        own_name: None,
    }
}
