//! `mailroot queue release`: mail on hold goes when somebody comes for it. Through `Status/release/`.

use super::run::load_where;
use super::{Exit, Page, Place};
use crate::config::on_hold::{OnHold, asked_for};
use crate::mailroot::release::{Requests, Wanted};

/// More names are not listed.
const NAMED: usize = 20;

pub(super) fn release(place: &Place, domain: &str, out: &mut Page<'_>, err: &mut Page<'_>) -> Exit {
    let loaded = match load_where(place, |folders| &folders.status, err) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let (name, and_below) = match asked_for(domain) {
        Ok(asked) => asked,
        Err(why) => {
            err.line(&format!("mailroot: \"{domain}\" is not a domain: {why}"));
            return Exit::Usage;
        }
    };
    let on_hold = OnHold::of(&loaded.config);
    let is_known = on_hold.has(&name, and_below);
    let wanted = Wanted::of(name, and_below);
    if !is_known {
        err.line(&format!("mailroot: {}", not_on_hold(&wanted, &on_hold, place)));
        return Exit::Usage;
    }
    let requests = Requests::of(&loaded.config.folders.status);
    if let Err(error) = requests.ask(&wanted, "mailroot queue release") {
        err.line(&format!("mailroot: {error}"));
        return Exit::Disk;
    }
    out.line(&format!(
        "asked: what waits in Queue for {wanted} now is tried once, by the route of its domain"
    ));
    out.line("a running service begins within seconds, else the next `mailroot drain` does it");
    Exit::Ok
}

fn not_on_hold(wanted: &Wanted, on_hold: &OnHold, place: &Place) -> String {
    let file = place.settings_file();
    let names = on_hold.names();
    if names.is_empty() {
        return format!(
            "{wanted} is not on hold: no [[remote]] entry of {} has hold = true",
            file.display()
        );
    }
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    format!(
        "{wanted} is not on hold: {} has hold = true for {}{more}",
        file.display(),
        shown.join(", ")
    )
}
