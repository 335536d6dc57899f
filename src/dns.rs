//! Questions to the DNS: the MX hosts of a domain, the addresses of a host, the name of an address.
//!
//! Reads `/etc/resolv.conf` (unless `dns.servers` is set) and `/etc/hosts`; writes nothing. The only asynchronous
//! code of the crate is in here, closed in one thread named `dns`, which starts at the first question and is
//! started anew when it has died. Callers are ordinary threads; they wait for an answer no longer than
//! `Pace::patience`. Not here: what an answer means for a message (`route`).
//!
//! Names are asked as they are given, never with a search domain appended: `bob@mail` must not go to
//! `mail.our-own.example`. `/etc/hosts` is believed for addresses (and then alone, as the C library does), never
//! for MX. International names are given as A-labels.

mod resolve;
mod reverse;
mod system;
mod thread;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod testserver;

pub use reverse::Reverse;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::mpsc;

use system::System;
use thread::Question;

/// A handle on the resolver; clones share one thread and one cache. Making one costs nothing.
#[derive(Clone)]
pub struct Dns {
    desk: Arc<Desk>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsFailure {
    /// NXDOMAIN: no records of any type exist under this name.
    NoSuchDomain,
    /// The name exists and has no records of this type.
    NoRecords,
    /// Nobody could say; asking again later may help. One clause that names the question.
    Temporary(String),
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchDomain => f.write_str("no such domain"),
            Self::NoRecords => f.write_str("no such records"),
            Self::Temporary(why) => f.write_str(why),
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// One try, to all servers.
    timeout: Duration,
    /// Tries before a question is given up.
    tries: usize,
    /// What a caller waits for, whatever happens in the thread.
    patience: Duration,
}

/// `patience` is above `timeout` × `tries`, so that the answer names what went wrong and not only that it took long.
const PACE: Pace = Pace {
    timeout: Duration::from_secs(5),
    tries: 2,
    patience: Duration::from_secs(15),
};

struct Desk {
    servers: Vec<SocketAddr>,
    pace: Pace,
    system: System,
    /// To the living thread; a closed or missing one is replaced at the next question.
    line: Mutex<Option<mpsc::Sender<Question>>>,
}

impl Desk {
    fn start(&self) -> std::io::Result<mpsc::Sender<Question>> {
        thread::start(self.servers.clone(), self.pace, self.system.clone())
    }
}

impl Dns {
    /// Asks `servers`, or those of the system when there are none. Nothing is started yet.
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self::with(servers, PACE, System::this())
    }

    fn with(servers: &[SocketAddr], pace: Pace, system: System) -> Self {
        Self {
            desk: Arc::new(Desk {
                servers: servers.to_vec(),
                pace,
                system,
                line: Mutex::new(None),
            }),
        }
    }

    /// The MX records of `domain`, in no particular order: preference and host in lower case without the final
    /// dot; the root (null MX, RFC 7505) is `.`. Never empty.
    pub fn mx(&self, domain: &str) -> Result<Vec<(u16, String)>, DnsFailure> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let until = self.deadline();
        self.ask(Question::Mx {
            domain: domain.to_owned(),
            until,
            reply,
        })?;
        wait(&answer, until)
            .unwrap_or_else(|why| Err(DnsFailure::Temporary(format!("MX of {domain}: {why}"))))
    }

    /// The addresses of `name`: IPv4 first, then IPv6, without duplicates. Never empty.
    ///
    /// One family is enough: when the other one could not be asked, it is left out.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let mut answers = self.addresses_of(&[name]);
        answers.pop().unwrap_or(Err(DnsFailure::NoRecords))
    }

    /// [`Dns::addresses`] of many names at once; the answers are in the order of `names`.
    pub fn addresses_of(&self, names: &[&str]) -> Vec<Result<Vec<IpAddr>, DnsFailure>> {
        self.addresses_until(names, self.deadline())
    }

    fn addresses_until(&self, names: &[&str], until: Instant) -> Vec<Result<Vec<IpAddr>, DnsFailure>> {
        let (reply, answers) = crossbeam_channel::bounded(names.len());
        let mut found: Vec<Option<Result<Vec<IpAddr>, DnsFailure>>> = names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let question = Question::Addresses {
                    name: (*name).to_owned(),
                    index,
                    until,
                    reply: reply.clone(),
                };
                self.ask(question).err().map(Err)
            })
            .collect();
        drop(reply);
        let mut open = found.iter().filter(|answer| answer.is_none()).count();
        let mut why = String::new();
        while open > 0 {
            match wait(&answers, until) {
                Ok((index, answer)) => {
                    if let Some(place) = found.get_mut(index) {
                        *place = Some(answer);
                    }
                    open -= 1;
                }
                Err(trouble) => {
                    why = trouble;
                    break;
                }
            }
        }
        let unanswered = |name: &&str| Err(DnsFailure::Temporary(format!("address of {name}: {why}")));
        names
            .iter()
            .zip(found)
            .map(|(name, answer)| answer.unwrap_or_else(|| unanswered(name)))
            .collect()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.desk.pace.patience
    }

    /// Hands the question to the thread, starting it when there is none.
    fn ask(&self, question: Question) -> Result<(), DnsFailure> {
        let mut line = self.desk.line.lock().unwrap_or_else(PoisonError::into_inner);
        let living = line.take().filter(|sender| !sender.is_closed());
        let sender = match living {
            Some(sender) => sender,
            None => self
                .desk
                .start()
                .map_err(|e| DnsFailure::Temporary(format!("the resolver cannot be started: {e}")))?,
        };
        let sent = sender.try_send(question);
        *line = Some(sender);
        sent.map_err(|e| {
            DnsFailure::Temporary(match e {
                mpsc::error::TrySendError::Full(_) => "too many questions wait for the resolver".to_owned(),
                mpsc::error::TrySendError::Closed(_) => DIED.to_owned(),
            })
        })
    }
}

const DIED: &str = "the resolver ended unexpectedly";

/// Waits until the deadline; the words say why there is nothing. The thread gives a question up at the same moment as
/// we do: a channel that it closes then is no sign that it died.
fn wait<T>(answer: &Receiver<T>, until: Instant) -> Result<T, String> {
    answer.recv_deadline(until).map_err(|e| match e {
        RecvTimeoutError::Disconnected if Instant::now() < until => DIED.to_owned(),
        _ => "no answer in time".to_owned(),
    })
}
