//! Floor 1: the disk. The only module that creates, renames, syncs or removes anything in the tree.
//!
//! # The presence table
//!
//! | EML | ENV | means | after a crash |
//! |:-:|:-:|---|---|
//! | – | – | not ours | – |
//! | + | – | nobody has been told anything: the envelope is what the file says | due now (judged complete again, as in Pickup) |
//! | + | + | ENV is the truth per recipient | due when ENV says |
//! | – | + | finished; the rest is about to go | the rest goes, once no listing has shown a message file of that ULID for 10 minutes |
//! | + | does not parse | not by our hand; who got it is unknown | buried with that reason, never guessed at |
//!
//! "Queued" means: the message file exists. The valid ENV is the one with the highest life that is not above the
//! message file's own, read after the claim. `tests/presence.rs` builds each row and looks what becomes of it.

mod across;
pub mod error;
pub mod evidence;
mod folder;
mod gather;
pub mod hanging;
pub mod inbox;
pub mod leftovers;
mod locks;
mod mend;
pub mod names;
pub mod node;
mod notes;
pub mod probe;
pub mod prune;
mod put;
pub mod reception;
pub mod release;
pub mod spool;
pub mod tree;
pub mod volume;
pub mod watch;
pub mod weigh;
mod written;

pub use error::{DiskError, Result};
pub use folder::OpenFolder;
pub use names::{NodeName, QueueName, shown};
pub use put::Staged;
pub use spool::{Shelf, Spool};
