//! `mailroot run`: settings, tree, log; then the engine has the word.

use super::{Exit, Page, Parts, Place};
use crate::config::{Folders, Loaded};
use crate::log::Logging;
use crate::mailroot::tree;
use crate::w3c;
use std::path::PathBuf;

/// Everything an engine starts from.
pub struct Start {
    /// For reading the settings again.
    pub place: Place,
    /// The settings, as they are now.
    pub loaded: Loaded,
    /// For putting other log settings in force.
    pub logging: Logging,
}

pub(super) fn run(place: Place, parts: &dyn Parts, err: &mut Page<'_>) -> Exit {
    match prepare(place, err) {
        Ok(start) => parts.run(start),
        Err(exit) => exit,
    }
}

/// `mailroot listen`: the same tree, the listeners only.
#[cfg(feature = "listener")]
pub(super) fn listen(place: Place, parts: &dyn Parts, err: &mut Page<'_>) -> Exit {
    match prepare(place, err) {
        Ok(start) => parts.listen(start),
        Err(exit) => exit,
    }
}

/// Settings, tree, log.
fn prepare(place: Place, err: &mut Page<'_>) -> Result<Start, Exit> {
    let loaded = load(&place, err)?;
    if let Err(error) = tree::make(&loaded.config.folders) {
        err.line(&format!(
            "mailroot: {error}; make it by hand, or run as a user who may"
        ));
        return Err(Exit::CannotCreate);
    }
    Ok(begin(place, loaded))
}

/// The settings, or their mistakes on the page.
pub(super) fn load(place: &Place, err: &mut Page<'_>) -> Result<Loaded, Exit> {
    place.load().map_err(|error| {
        err.text(&error.to_string());
        Exit::Config
    })
}

/// The same of a mailroot that is there: this folder of it is.
pub(super) fn load_where(
    place: &Place,
    needed: impl FnOnce(&Folders) -> &PathBuf,
    err: &mut Page<'_>,
) -> Result<Loaded, Exit> {
    let loaded = load(place, err)?;
    let folder = needed(&loaded.config.folders);
    if !folder.is_dir() {
        let (folder, place) = (folder.display(), place.shown());
        err.line(&format!(
            "mailroot: there is no folder {folder}: make the mailroot with `mailroot init {place}`"
        ));
        return Err(Exit::NoInput);
    }
    Ok(loaded)
}

/// From here on what there is to tell goes to the log.
pub(super) fn begin(place: Place, loaded: Loaded) -> Start {
    let (log, folder) = (&loaded.config.log, &loaded.config.folders.logs);
    let logging = Logging::start(log, folder);
    w3c::apply(log, folder);
    for warning in &loaded.warnings {
        tracing::warn!(target: crate::log::EACH, "{warning}");
    }
    Start {
        place,
        loaded,
        logging,
    }
}
