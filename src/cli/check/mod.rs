//! `mailroot check`: a mailroot as a whole, or what would become of message files.
//!
//! Reads settings, folders, files; tries things in the folders (`mailroot::probe`); asks DNS and hosts through
//! [`Outside`]. Sends no message. In reading order: `finding`, `settings`, `disk`, `storage`,
//! `net`, [`file`].

mod disk;
mod file;
mod finding;
mod net;
mod settings;
mod storage;
mod storage_words;
#[cfg(test)]
mod tests;

pub use finding::Findings;
pub use net::{Lookup, Outside, SmartHost, mx_elsewhere};
pub(super) use storage_words::words as storage_in_words;

use super::run::load;
use super::{Exit, Page, Parts, Place};
use std::path::{Path, PathBuf};

/// A folder is a mailroot, anything else a message file; `DIR FILE…` looks at files with the settings of DIR.
pub(super) fn check(
    targets: Vec<PathBuf>,
    domains: &[String],
    peer: Option<&Path>,
    place: impl FnOnce(Option<PathBuf>) -> Place,
    parts: &dyn Parts,
    out: &mut Page<'_>,
    err: &mut Page<'_>,
) -> Exit {
    let mut targets = targets.into_iter().peekable();
    let dir = targets.next_if(|first| first.is_dir());
    let files: Vec<PathBuf> = targets.collect();
    if let Some(second) = files.iter().find(|file| file.is_dir()) {
        err.line(&format!(
            "mailroot: {} is a second folder: check one mailroot at a time, or name message files",
            second.display()
        ));
        return Exit::Usage;
    }
    let place = place(dir);
    if files.is_empty() {
        return whole(&place, domains, peer, parts, out);
    }
    if !domains.is_empty() || peer.is_some() {
        err.line("mailroot: --domain and --peer go with a mailroot, not with message files");
        return Exit::Usage;
    }
    match load(&place, err) {
        Ok(loaded) => file::files(&files, &loaded, parts, out, err),
        Err(exit) => exit,
    }
}

/// In the order in which one thing rests on another: settings, folders, disk, storage, the way out.
fn whole(
    place: &Place,
    domains: &[String],
    peer: Option<&Path>,
    parts: &dyn Parts,
    out: &mut Page<'_>,
) -> Exit {
    let mut findings = Findings::new(out);
    let loaded = match place.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            for problem in error.problems {
                findings.fail(
                    "settings",
                    &summary(&problem),
                    "change that line; nothing else was looked at",
                );
            }
            return findings.finish();
        }
    };
    let config = &loaded.config;
    settings::check(&loaded, place, &mut findings);
    if disk::check(config, &place.dir, &mut findings) {
        storage::check(config, place, peer, &mut findings);
    }
    net::check(config, domains, parts.outside(config).as_ref(), &mut findings);
    findings.finish()
}

/// A mistake on one line: the carets are for those who asked to run.
fn summary(problem: &crate::config::Problem) -> String {
    let line = problem.line.map_or(String::new(), |line| format!(" line {line}"));
    format!("{}{line}: {}", Path::display(&problem.file), problem.says)
}
