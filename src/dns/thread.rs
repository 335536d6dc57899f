//! The thread that asks: one question after another is taken, many are under way at once.
//!
//! Ends when the last handle is gone, or with a panic; open questions then see their reply channel closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use tokio::sync::{Semaphore, mpsc};

use super::resolve::Resolver;
use super::system::{Source, System};
use super::{DnsFailure, Pace};

/// Questions that wait to be taken; when it is full, the next one is answered "later" at once. Above
/// `delivery.max_connections` × the hosts that one attempt asks for (`route::hosts::MAX_MX`).
const MAX_WAITING: usize = 4096;

/// Questions under way. Each takes up to four sockets (two families, two servers) while it lasts.
const MAX_AT_ONCE: usize = 128;

/// What is asked, until when somebody waits for it, and where the answer goes. Every reply channel has room for
/// its answer, so that sending one never blocks the thread.
pub(super) enum Question {
    Mx {
        domain: String,
        until: Instant,
        reply: Sender<Result<Vec<(u16, String)>, DnsFailure>>,
    },
    Addresses {
        name: String,
        index: usize,
        until: Instant,
        reply: Sender<(usize, Result<Vec<IpAddr>, DnsFailure>)>,
    },
    /// The PTR records of an address.
    Names {
        address: IpAddr,
        until: Instant,
        reply: Sender<Result<Vec<String>, DnsFailure>>,
    },
    /// For the test of what follows from a panic in the thread.
    #[cfg(test)]
    Die,
}

/// Starts the thread; it lives as long as the sender that is returned.
pub(super) fn start(
    servers: Vec<SocketAddr>,
    pace: Pace,
    system: System,
) -> io::Result<mpsc::Sender<Question>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (sender, questions) = mpsc::channel(MAX_WAITING);
    std::thread::Builder::new()
        .name("dns".to_owned())
        .spawn(move || runtime.block_on(serve(questions, Source::new(servers, pace, system))))?;
    Ok(sender)
}

async fn serve(mut questions: mpsc::Receiver<Question>, mut source: Source) {
    let slots = Arc::new(Semaphore::new(MAX_AT_ONCE));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(question) = questions.recv().await else {
            return;
        };
        #[cfg(test)]
        if matches!(question, Question::Die) {
            panic!("the thread was told to die");
        }
        match source.resolver() {
            Ok(resolver) => {
                tokio::spawn(async move {
                    answer(question, &resolver).await;
                    drop(slot);
                });
            }
            Err(why) => refuse(question, why),
        }
    }
}

/// Answers one question. A caller that has left is no error: its channel is closed and nobody reads the answer.
async fn answer(question: Question, resolver: &Resolver) {
    match question {
        Question::Mx { domain, until, reply } => {
            if let Some(found) = in_time(until, resolver.mx(&domain)).await {
                let _ = reply.try_send(found);
            }
        }
        Question::Addresses {
            name,
            index,
            until,
            reply,
        } => {
            if let Some(found) = in_time(until, resolver.addresses(&name)).await {
                let _ = reply.try_send((index, found));
            }
        }
        Question::Names {
            address,
            until,
            reply,
        } => {
            if let Some(found) = in_time(until, resolver.names(address)).await {
                let _ = reply.try_send(found);
            }
        }
        #[cfg(test)]
        Question::Die => {}
    }
}

async fn in_time<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(until.into(), work).await.ok()
}

fn refuse(question: Question, why: String) {
    let failure = DnsFailure::Temporary(why);
    match question {
        Question::Mx { reply, .. } => {
            let _ = reply.try_send(Err(failure));
        }
        Question::Addresses { index, reply, .. } => {
            let _ = reply.try_send((index, Err(failure)));
        }
        Question::Names { reply, .. } => {
            let _ = reply.try_send(Err(failure));
        }
        #[cfg(test)]
        Question::Die => {}
    }
}
