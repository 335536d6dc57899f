//! The client against a host that follows a script, over real sockets on loopback.

mod auth;
mod hostile;
mod opening;
mod pipeline;
mod secure;
mod support;
mod transaction;

pub(super) use support::peer_at;
