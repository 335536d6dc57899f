//! Floor 2: the SMTP client (RFC 5321). Talks to one host at a time; knows no queue, no tree and no DNS.
//!
//! ```text
//!   Peer ──connect──▶ TCP ▶ (TLS) ▶ greeting ▶ EHLO | HELO ▶ STARTTLS ▶ EHLO ▶ AUTH ──▶ Session │ Refused
//!
//!   Session ──send──▶ MAIL ▶ RCPT … ▶ DATA + message + . ──▶ Sent: one Outcome per recipient
//!      ▲                             └ BDAT + message            │
//!      │  └─launch … launch, land … land ──▶ Sent …: several messages on their way (PIPELINING)
//!      └────────────────── usable? ◀─────────────────────────────┘          ──quit──▶ QUIT
//! ```
//!
//! Reads and writes one socket (and reads a password, when there is AUTH). Everything blocks the calling thread, and
//! every step has an absolute deadline. A host can be hostile: replies, lines, dialogues and waits are bounded.
//!
//! Reading order: [`Peer`], `connect`, [`Session`], `transaction`, `pipeline`, then the means: `chat` (commands and replies, recorded
//! in the `dialogue`), `commands`, `offers`, `auth` with `secret`, `verdict`, `upload`; below them `wire`, `tls`,
//! `reply`. [`content`] makes the bytes that a [`Body`] stands for.

mod auth;
mod body;
mod chat;
mod commands;
mod connect;
pub mod content;
mod dialogue;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod doors;
mod offers;
mod peer;
mod pipeline;
mod reply;
mod secret;
mod session;
mod tls;
mod transaction;
mod upload;
mod verdict;
mod wire;

#[cfg(test)]
mod tests;

pub use body::{Body, Outlet, Transaction};
pub use connect::connect;
pub use offers::Offers;
pub use peer::{Peer, Refused, RefusedKind};
pub use session::{Launch, Sent, Session};
pub use tls::TlsContext;
