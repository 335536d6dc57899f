//! `mailroot user add|remove|list`: who may log in at the listeners of a mailroot.

use super::run::load;
use super::{Exit, Page, Place};
use crate::plugins::listener::users::{Users, UsersError};
use std::io::BufRead;
use std::path::Path;

/// What is to be done.
pub(super) enum Task {
    /// Adds a user, or gives him another password: the first line of the input.
    Add(String),
    /// Takes a user away.
    Remove(String),
    /// Names all.
    List,
}

pub(super) fn user(
    place: &Place,
    task: &Task,
    input: &mut dyn BufRead,
    out: &mut Page<'_>,
    err: &mut Page<'_>,
) -> Exit {
    let loaded = match load(place, err) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let files = loaded
        .config
        .listeners
        .iter()
        .filter_map(|listener| listener.users_file.as_deref());
    let mut files: Vec<&Path> = files.collect();
    files.dedup();
    let file = match files.as_slice() {
        [file] => *file,
        [] => {
            err.line(&format!(
                "mailroot: {} has no enabled [listener] with a users_file: write enabled = true and users_file = \"users\" \
                 below [listener]",
                place.settings_file().display()
            ));
            return Exit::Config;
        }
        _ => {
            err.line("mailroot: the listeners have several users_file; give all of them the same");
            return Exit::Config;
        }
    };
    match act(file, task, input, out, err) {
        Ok(exit) => exit,
        Err(error) => {
            err.line(&format!("mailroot: {error}"));
            Exit::NoInput
        }
    }
}

fn act(
    file: &Path,
    task: &Task,
    input: &mut dyn BufRead,
    out: &mut Page<'_>,
    err: &mut Page<'_>,
) -> Result<Exit, UsersError> {
    let shown = file.display();
    match task {
        Task::List => Users::read(file)?.names().for_each(|name| out.line(name)),
        Task::Remove(name) => {
            if !Users::change(file, |users| Ok(users.remove(name)))? {
                err.line(&format!("mailroot: {shown} has no user {name}"));
                return Ok(Exit::NoInput);
            }
            out.line(&format!("removed {name} from {shown}"));
        }
        Task::Add(name) => {
            // Asked for before the file is read: it may take its time.
            err.line(&format!("Password of {name}, on one line:"));
            let mut line = String::new();
            if input.read_line(&mut line).is_err() {
                err.line("mailroot: the password cannot be read");
                return Ok(Exit::NoInput);
            }
            let mut is_new = false;
            Users::change(file, |users| {
                is_new = users.set(name, line.trim_end_matches(['\r', '\n']))?;
                Ok(true)
            })?;
            let done = if is_new { "added" } else { "gave a new password to" };
            out.line(&format!("{done} {name} in {shown}"));
        }
    }
    Ok(Exit::Ok)
}
