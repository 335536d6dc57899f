//! Where a recipient goes: local, or to which hosts, and under which conditions (contract §5).
//!
//! [`Routes`] is pure: settings and an address in, a [`Route`] out, asked anew at every attempt. [`hosts`] turns a
//! [`Destination`] into addresses to connect to, and asks the DNS for it. Any thread. Not here: connecting (`smtp`),
//! deciding when (`engine`).
//!
//! The order for each recipient: local domain; else the most specific `[[remote]]` entry; else `delivery.smart_host`;
//! else MX. An address literal (`bob@[192.0.2.1]`) takes the same order and skips the DNS where MX would be asked.
//!
//! Read in this order: [`Routes`], `domain`, `table`, `rules`, `destination`, `hosts`, `mx`.

mod destination;
mod domain;
mod hosts;
mod mx;
mod routes;
mod rules;
mod table;

pub use destination::{Destination, Door, NextHop};
pub use domain::{Domain, NotADomain};
pub use hosts::{HostAddress, Hosts, hosts};
pub use routes::{OnHold, Routes};

use std::sync::Arc;

use crate::mail::Outcome;

/// Where one recipient goes.
#[derive(Debug, Clone)]
pub enum Route {
    /// Into Drop.
    Local,
    /// To a host. Recipients with equal destinations share one `Arc`, and so one transaction.
    Remote(Arc<Destination>),
    /// Nowhere: a `Failed` (no such address can exist) or a `Deferred` (the settings contradict themselves).
    Impossible(Outcome),
}
