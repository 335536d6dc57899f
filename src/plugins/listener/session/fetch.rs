//! ETRN (RFC 1985): somebody comes for mail that is on hold; it goes by the route of its domain.
//!
//! Writes: `Status/release/` through [`Requests`](crate::mailroot::release::Requests). Thread: the session's.

use super::Session;
use crate::config::on_hold::asked_for;
use crate::mailroot::release::Wanted;
use crate::plugins::listener::reply::Reply;
use tracing::{info, warn};

impl Session<'_> {
    pub(super) fn etrn(&self, argument: &str) -> Reply {
        if self.rules.on_hold.is_empty() {
            return Reply::new(502, "5.5.1", "ETRN is not offered: no domain is on hold");
        }
        if let Some(reply) = self.may_begin() {
            return reply;
        }
        if self.transaction.is_some() {
            return Reply::order("Not in the middle of a message");
        }
        let unable = |status, why| {
            let words = format!("Unable to queue messages for node {argument}: {why}");
            Reply::new(458, status, words)
        };
        if argument.starts_with('#') {
            return unable("4.5.4", "queues have no names here");
        }
        let (name, and_below) = match asked_for(argument) {
            Ok(asked) => asked,
            Err(why) => return Reply::argument(&format!("this is not a domain: {why}")),
        };
        let not_allowed = |why| Reply::new(459, "4.7.1", format!("Node {argument} not allowed: {why}"));
        let client = &self.client;
        match self.rules.may_fetch(client) {
            Some(true) => {}
            Some(false) => return not_allowed("you may not come for it"),
            None => return unable("4.7.1", "your name cannot be looked up now"),
        }
        if !self.rules.on_hold.has(&name, and_below) {
            return not_allowed("its mail is not kept here");
        }
        let wanted = Wanted::of(name, and_below);
        let by = match &client.user {
            Some(user) => format!("ETRN from {} as {}", client.address.ip(), user.escape_debug()),
            None => format!("ETRN from {}", client.address.ip()),
        };
        if let Err(error) = self.house.requests.ask_calmly(&wanted, &by) {
            warn!(%error, "mail on hold cannot be asked for");
            return unable("4.3.0", "try again later");
        }
        info!(client = %client.address, user = client.user.as_deref().unwrap_or(""), domain = %wanted, "ETRN");
        Reply::new(250, "2.0.0", format!("Queuing for node {argument} started"))
    }
}
