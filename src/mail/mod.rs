//! Floor 0: the words. Values and their text forms; nothing here reads a file, a socket or the clock.
//!
//! Read in this order: [`id`], [`address`], [`envelope`], [`outcome`], [`header`], [`mailbox`], [`leading`].

pub mod address;
pub mod advice;
pub mod envelope;
pub mod header;
pub mod id;
pub mod leading;
pub mod mailbox;
pub mod outcome;
pub mod plain;
pub mod remarks;
pub mod source;
pub mod structured;

pub use address::{Address, AddressError};
pub use envelope::{BodyType, Envelope, Notify, Recipient, Ret};
pub use id::MessageId;
pub use outcome::{EnhancedStatus, Outcome, Verdict};
pub use source::ReadAt;
