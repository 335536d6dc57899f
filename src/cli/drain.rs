//! `mailroot drain`: like run, but only where a mailroot is: a mistyped DIR in a crontab must not look like "done".

use super::run::{begin, load};
use super::{Exit, Page, Parts, Place};

pub(super) fn drain(place: Place, parts: &dyn Parts, err: &mut Page<'_>) -> Exit {
    let loaded = match load(&place, err) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let pickup = &loaded.config.folders.pickup;
    if !pickup.is_dir() {
        let (pickup, place) = (pickup.display(), place.shown());
        err.line(&format!(
            "mailroot: there is no folder {pickup}: make the mailroot with `mailroot init {place}`"
        ));
        return Exit::NoInput;
    }
    parts.drain(begin(place, loaded))
}
