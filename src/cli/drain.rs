//! `mailroot drain`: like run, but only where a mailroot is: a mistyped DIR in a crontab must not look like "done".

use super::run::{begin, load_where};
use super::{Exit, Page, Parts, Place};

pub(super) fn drain(place: Place, parts: &dyn Parts, err: &mut Page<'_>) -> Exit {
    let loaded = match load_where(&place, |folders| &folders.pickup, err) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    parts.drain(begin(place, loaded))
}
