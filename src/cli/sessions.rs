//! `mailroot sessions`, `pause`, `resume`: who is at the listeners, and who may come. All through `Status/listener/`.

use super::run::load_where;
use super::{Exit, Page, Place};
use crate::mailroot::DiskError;
use crate::mailroot::reception::Reception;

/// What is to be done.
pub(super) enum Wish {
    /// One line for each session.
    List,
    /// Ends the session of this ID; `None`: all.
    End(Option<String>),
    /// No new connections.
    Pause,
    /// New connections again.
    Resume,
}

pub(super) fn sessions(place: &Place, wish: &Wish, out: &mut Page<'_>, err: &mut Page<'_>) -> Exit {
    let loaded = match load_where(place, |folders| &folders.status, err) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let reception = Reception::of(&loaded.config.folders.status);
    act(&reception, wish, out, err).unwrap_or_else(|error| {
        err.line(&format!("mailroot: {error}"));
        Exit::Disk
    })
}

fn act(
    reception: &Reception,
    wish: &Wish,
    out: &mut Page<'_>,
    err: &mut Page<'_>,
) -> Result<Exit, DiskError> {
    match wish {
        Wish::List => {
            if reception.is_paused() {
                out.line("paused: no new connections (`mailroot resume`)");
            }
            let shown = reception.shown();
            let lines = shown.iter().flat_map(|(_, text)| lines(text));
            lines.for_each(|line| out.line(&line));
        }
        Wish::End(None) => {
            let shown = reception.shown();
            if shown.is_empty() {
                out.line("there are no sessions; one that began just now is shown within some seconds");
            }
            for (node, _) in shown {
                reception.ask_to_end(&node, None)?;
            }
        }
        Wish::End(Some(id)) => {
            let parts = id
                .rsplit_once('.')
                .and_then(|(node, number)| Some((node, number.parse().ok()?)));
            let shown = reception.shown();
            let mut here = shown.iter().flat_map(|(_, text)| lines(text));
            let is_here = here.any(|line| line.split(' ').next() == Some(id));
            match parts {
                Some((node, number)) if is_here => reception.ask_to_end(node, Some(number))?,
                _ => {
                    err.line(&format!(
                        "mailroot: there is no session {id}; `mailroot sessions` names them"
                    ));
                    return Ok(Exit::NoInput);
                }
            }
        }
        Wish::Pause => {
            reception.pause(true)?;
            out.line("paused: sessions go on, new connections are turned away");
        }
        Wish::Resume => {
            reception.pause(false)?;
            out.line("resumed: new connections are taken");
        }
    }
    Ok(Exit::Ok)
}

/// `ID since … client … helo … user … tls … state … messages …`
fn lines(text: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let sessions = value.get("sessions").and_then(serde_json::Value::as_array);
    let line = |session: &serde_json::Value| {
        let of = |key: &str| match session.get(key) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let mut line = of("id");
        for key in ["since", "client", "helo", "user", "tls", "state", "messages"] {
            let value = of(key);
            if !value.is_empty() {
                line.push_str(&format!("  {key}={value}"));
            }
        }
        line
    };
    sessions.into_iter().flatten().map(line).collect()
}
