//! Beside the building: a real SMTP host on loopback that follows a talk script.
//!
//! `mailroot demo` uses it as "the internet", tests as the other side, benchmarks as the sink. It names floor 0 at
//! most, and the engine never names it. It is stricter than hosts in the field are: what a client does against the
//! RFCs stands in [`Host::violations`] even where the host plays along.
//!
//! ```text
//! # what a talk script looks like: one line per rule, the first that fits decides
//! offer PIPELINING, 8BITMIME, SIZE 1000000, DSN
//! rcpt refused@*            -> 550 5.1.1 no such user
//! rcpt grey@* first 1       -> 451 4.7.1 try again later
//! end first 1               -> keep then hang up
//! after 100 messages        -> 421 4.3.2 enough for one connection
//! ```
//!
//! Reading order: [`script`] (what can be said), [`talk`] (its text form), [`host`] (threads and records), then the
//! private `session` (the dialogue), `content` (the strict end of DATA), `sasl`, `wire`.

mod content;
pub mod host;
mod sasl;
pub mod script;
mod session;
pub mod talk;
mod wire;

pub use host::{Accepted, AcceptedRecipient, Counts, Host};
pub use script::{Action, Reply, Rule, Script, Step, When};
pub use talk::TalkError;
