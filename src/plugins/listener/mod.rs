//! The listener: mail by SMTP into Pickup, for those who ask for it (`[listener] enabled = true`).
//!
//! ```text
//! client ──SMTP──▶ session ──leading block, Received, content──▶ Pickup/ID.EML      250 after it is synced
//! ```
//!
//! It touches the tree only, and the engine does not know that it exists: `mailroot run` starts it beside the engine,
//! `mailroot listen` without one. What stands in Pickup is a message file like any other (contract §2).
//!
//! Threads: one for each `[listener]` that accepts, one for each session, bounded by `max_connections`, and one that shows
//! them in `Status/listener/`. Reads: settings, certificates, the users file. Writes: Pickup, `Status/listener/`.

mod auth;
mod client;
mod command;
mod content;
mod diary;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod doors;
mod drop_room;
mod guests;
mod letter;
mod reply;
mod rules;
mod session;
pub mod users;
mod wire;

use super::Trouble;
use crate::config::{Config, Listener};
use crate::mailroot::NodeName;
use crate::mailroot::inbox::Inbox;
use crate::mailroot::reception::Reception;
use crate::mailroot::release::Requests;
use crate::stop::Stop;
use client::Client;
use drop_room::DropRoom;
use guests::Guests;
use reply::Reply;
use rules::Rules;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

pub use rules::judge;

/// Who waits for clients looks so often whether the end has come.
const LOOK: Duration = Duration::from_millis(250);
/// A message that is being put into Pickup may take so long when the end has come.
const GRACE: Duration = Duration::from_secs(5);
/// A session's thread needs no more.
const STACK: usize = 1024 * 1024;

/// What all sessions share.
struct House {
    inbox: Inbox,
    reception: Reception,
    /// For mail on hold.
    requests: Requests,
    guests: Arc<Guests>,
    drop_room: Arc<DropRoom>,
    stop: Stop,
}

/// The listeners of one mailroot.
pub struct Listeners {
    house: Arc<House>,
    doors: Vec<Door>,
    showing: Mutex<Option<JoinHandle<()>>>,
}

/// One that is open.
struct Door {
    /// As the settings say.
    wanted: SocketAddr,
    address: SocketAddr,
    rules: Arc<RwLock<Arc<Rules>>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Listeners {
    /// Opens those that are enabled.
    pub fn start(config: &Config, stop: Stop) -> Result<Self, Trouble> {
        let house = House {
            inbox: Inbox::new(&config.folders.pickup),
            reception: Reception::of(&config.folders.status),
            requests: Requests::of(&config.folders.status),
            guests: Arc::default(),
            drop_room: DropRoom::of(config.folders.drop.clone()),
            stop,
        };
        let user = rustix::process::geteuid().as_raw();
        if let Some(owner) = house
            .inbox
            .owner()
            .filter(|owner| *owner != user && !config.listeners.is_empty())
        {
            return Err(Trouble::Settings(format!(
                "{} belongs to user {owner}, and this is user {user}: the engine could not read what is put there; let both \
                 run as the same user",
                config.folders.pickup.display()
            )));
        }
        house.inbox.sweep();
        house
            .guests
            .paused
            .store(house.reception.is_paused(), Ordering::Relaxed);
        let mut listeners = Self {
            house: Arc::new(house),
            doors: Vec::new(),
            showing: Mutex::default(),
        };
        for listener in &config.listeners {
            match listeners.open(config, listener) {
                Ok(door) => listeners.doors.push(door),
                Err(why) => {
                    listeners.house.stop.set();
                    listeners.finish();
                    return Err(why);
                }
            }
        }
        if !listeners.doors.is_empty() {
            let (house, node) = (
                Arc::clone(&listeners.house),
                NodeName::generate(&config.server.hostname),
            );
            let show = move || guests::keep_reception(&house.guests, &house.reception, &node, &house.stop);
            match std::thread::Builder::new()
                .name("listen-status".to_owned())
                .spawn(show)
            {
                Ok(showing) => listeners.showing = Mutex::new(Some(showing)),
                Err(error) => warn!(%error, "cannot start a thread: sessions are not shown"),
            }
        }
        Ok(listeners)
    }

    fn open(&self, config: &Config, listener: &Listener) -> Result<Door, Trouble> {
        let rules = Rules::new(config, listener).map_err(Trouble::Settings)?;
        let rules = Arc::new(RwLock::new(Arc::new(rules)));
        let wanted = SocketAddr::new(listener.address, listener.port);
        let failed = |error: io::Error| Trouble::Port(format!("cannot listen on {wanted}: {error}"));
        let socket = TcpListener::bind(wanted).map_err(failed)?;
        // A blocking accept that looks up now and then.
        set_socket_timeout(&socket, Timeout::Recv, Some(LOOK)).map_err(|error| failed(error.into()))?;
        let address = socket.local_addr().map_err(failed)?;
        let accepting = {
            let (house, rules) = (Arc::clone(&self.house), Arc::clone(&rules));
            let accept = move || accept(&house, &socket, address, &rules);
            let name = format!("listen-{}", address.port());
            std::thread::Builder::new()
                .name(name)
                .spawn(accept)
                .map_err(failed)?
        };
        info!(%address, tls = listener.certificate.is_some(), "listening");
        Ok(Door {
            wanted,
            address,
            rules,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// Whether any is open.
    pub fn is_empty(&self) -> bool {
        self.doors.is_empty()
    }

    /// Puts other rules in force, for sessions that begin from now on; addresses and ports stay as they are.
    pub fn reload(&self, config: &Config) {
        for door in &self.doors {
            let is_same = |one: &&Listener| SocketAddr::new(one.address, one.port) == door.wanted;
            let Some(listener) = config.listeners.iter().find(is_same) else {
                warn!(address = %door.address, "no longer in the settings; it is closed at the next start");
                continue;
            };
            match Rules::new(config, listener) {
                Ok(rules) => {
                    *door.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                }
                Err(why) => error!(address = %door.address, "{why}; the former rules stay in force"),
            }
        }
    }

    /// Waits until the sessions have ended, once the end has been asked for.
    pub fn finish(&self) {
        let threads = self
            .doors
            .iter()
            .map(|door| &door.accepting)
            .chain([&self.showing]);
        let until = Instant::now() + GRACE;
        for thread in threads {
            let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(thread) = thread else {
                continue;
            };
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !thread.is_finished() {
                warn!("the storage does not answer; the listener ends all the same");
            } else if thread.join().is_err() {
                error!("an internal error of the listener; please report it");
            }
        }
        // Nobody can come any more.
        self.house.guests.end(None);
        let left = self.house.guests.wait_until_gone(until);
        if left > 0 {
            warn!(sessions = left, "cut off; nothing was promised to them");
        }
    }
}

fn accept(house: &Arc<House>, socket: &TcpListener, door: SocketAddr, rules: &RwLock<Arc<Rules>>) {
    while !house.stop.is_set() {
        match socket.accept() {
            Ok((tcp, client)) => {
                let rules = Arc::clone(&rules.read().unwrap_or_else(PoisonError::into_inner));
                admit(house, rules, door, tcp, client);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => {
                // Out of descriptors, most likely: those who are here end some day.
                warn!(%error, "cannot take a connection");
                if house.stop.sleep(LOOK) {
                    return;
                }
            }
        }
    }
}

fn admit(house: &Arc<House>, rules: Arc<Rules>, door: SocketAddr, tcp: TcpStream, client: SocketAddr) {
    let listener = &rules.listener;
    if listener.clients.include(client.ip(), None) == Some(false) {
        info!(%client, "refused: it is not among the clients that may connect");
        return turn_away(&tcp, &Reply::new(554, "5.7.1", "You may not connect here"));
    }
    if house.guests.paused.load(Ordering::Relaxed) {
        info!(%client, "refused: paused");
        return turn_away(
            &tcp,
            &Reply::new(421, "4.3.2", "Not taking connections now; try again later"),
        );
    }
    let limits = (listener.max_connections, listener.max_connections_per_client);
    let Some(guest) = Guests::enter(&house.guests, door, client, limits) else {
        info!(%client, "refused: too many connections");
        return turn_away(
            &tcp,
            &Reply::new(421, "4.3.2", "Too many connections; try again later"),
        );
    };
    let house = Arc::clone(house);
    let mut client = Client::new(client, tcp.local_addr().unwrap_or(door));
    let serve = move || {
        if let Err(reply) = client.is_let_in(&rules) {
            return turn_away(&tcp, &reply);
        }
        let mut timed = wire::timed(tcp);
        timed.ends_with(Some(guest.facts.stop.clone()));
        let wire = wire::Wire::new(timed, rules.listener.timeout);
        session::serve(&house, rules, wire, client, &guest.facts);
    };
    let thread = std::thread::Builder::new()
        .name("smtp-in".to_owned())
        .stack_size(STACK);
    if let Err(error) = thread.spawn(serve) {
        warn!(%error, "cannot start a thread for a session");
    }
}

/// Says so without waiting for anything.
fn turn_away(mut tcp: &TcpStream, reply: &Reply) {
    let mut words = Vec::new();
    reply.write(&mut words);
    let _ = tcp.set_nonblocking(true).and_then(|()| tcp.write_all(&words));
}
