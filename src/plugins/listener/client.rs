//! Who is at the other end of a session.

use super::diary::Diary;
use std::net::SocketAddr;

/// See above.
pub(super) struct Client {
    pub address: SocketAddr,
    /// As it called itself; empty before HELO, and for HELO without a name.
    pub name: String,
    /// It said HELO or EHLO …
    pub greeted: bool,
    /// … and it was EHLO.
    pub extended: bool,
    pub user: Option<String>,
    /// Version and cipher.
    pub tls: Option<String>,
    pub diary: Diary,
}

impl Client {
    /// One that has said nothing yet. `server` is the address of ours that it came to.
    pub fn new(address: SocketAddr, server: SocketAddr) -> Self {
        Self {
            address,
            name: String::new(),
            greeted: false,
            extended: false,
            user: None,
            tls: None,
            diary: Diary::of(address, server),
        }
    }
}
