//! Files that cannot be understood, on their way to Badmail. Each burial waits for the disk several times
//! and copies the file, so it is done aside.
//!
//! Reads: the message file. Writes: Badmail, Queue through `mailroot`. Threads: burial-n ([`super::lane`]). Not here:
//! what is malformed (pickup), how it is buried (undelivered).

use super::job::Source;
use super::lane::Lane;
use super::shared::Shared;
use super::undelivered;
use crate::badmail::Reason;
use crate::mail::MessageId;
use crate::mailroot::DiskError;
use crate::mailroot::evidence::open_plain;
use crate::pickup::Malformed;
use crossbeam_channel::Sender;
use std::sync::Arc;

/// So many go on at once.
const THREADS: usize = 4;

/// A file that is claimed, in hand, and was not understood.
pub struct Unread {
    /// Who it became.
    pub id: MessageId,
    /// Its name in Pickup, escaped; in Queue, where it was found there.
    pub file: String,
    /// Its bytes.
    pub source: Source,
    /// Why.
    pub malformed: Malformed,
    /// For the transcript.
    pub ltr: String,
}

/// Where they are handed over.
pub type Burials = Lane<Unread>;

/// Starts the threads.
pub fn start(shared: &Arc<Shared>, room: &Sender<()>) -> Burials {
    let shared = Arc::clone(shared);
    Lane::start("burial", THREADS, room, move |unread| bury(&shared, &unread))
}

/// Buries it, or at the end gives it back; in either case it is in hand no more.
pub fn bury(shared: &Shared, unread: &Unread) {
    let _leave = Leave(shared, unread.id);
    let id = unread.id;
    if shared.stop.is_set() {
        let _ = shared.spool.release(id);
        return;
    }
    let why = Reason::Malformed(&unread.malformed);
    let buried = undelivered::bury_unread(shared, id, &unread.file, &unread.source, why, &unread.ltr);
    if let Err(error) = buried {
        shared.distrust(&error);
        shared.badmail_failed(&error);
        let _ = shared.spool.release(id);
    }
}

/// Buries what is claimed on the thread of the caller, for what is rare. `false`: it was released, it cannot be buried
/// now.
pub fn bury_here(shared: &Shared, id: MessageId, file: &str, why: Reason<'_>) -> bool {
    let path = shared.spool.taken(id);
    let source = open_plain(&path).and_then(|file| {
        let len = file.metadata()?.len();
        Source::open(&file, len)
    });
    let buried = source
        .map_err(DiskError::when("read", &path))
        .and_then(|source| undelivered::bury_unread(shared, id, file, &source, why, ""));
    let Err(error) = buried else { return true };
    shared.distrust(&error);
    shared.badmail_failed(&error);
    let _ = shared.spool.release(id);
    false
}

struct Leave<'a>(&'a Shared, MessageId);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.in_hand.leave(self.1.ulid);
        self.0.progress.note();
    }
}
