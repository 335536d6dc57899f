//! `mailroot init`: the settings file if there is none, then the folders that are missing.

use super::run::load;
use super::{Exit, Page, Place};
use crate::config::TEMPLATE;
use crate::mailroot::tree;

pub(super) fn init(place: &Place, out: &mut Page<'_>, err: &mut Page<'_>) -> Exit {
    let file = place.settings_file();
    // The settings come first: they may say that the folders are elsewhere.
    match tree::write_new(&file, TEMPLATE) {
        Ok(true) => out.line(&format!(
            "made   {} (every setting, with its default)",
            file.display()
        )),
        Ok(false) => out.line(&format!("kept   {} (it was there already)", file.display())),
        Err(error) => {
            err.line(&format!("mailroot: {error}"));
            return Exit::CannotCreate;
        }
    }
    let loaded = match load(place, err) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let folders = &loaded.config.folders;
    let made = match tree::make(folders) {
        Ok(made) => made,
        Err(error) => {
            err.line(&format!("mailroot: {error}"));
            return Exit::CannotCreate;
        }
    };
    for folder in tree::folders(folders) {
        let word = if made.iter().any(|path| path == folder.path) {
            "made"
        } else {
            "kept"
        };
        out.line(&format!("{word}   {}/", folder.path.display()));
    }
    for warning in &loaded.warnings {
        out.line(&format!("WARN   {warning}"));
    }
    let dir = place.shown();
    out.line(&format!(
        "next:  `mailroot check {dir}` looks whether mail could leave, `mailroot run {dir}` delivers it"
    ));
    Exit::Ok
}
