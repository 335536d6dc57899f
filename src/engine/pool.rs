//! The rayon pools of intake and keeper: each has threads of its own, so that neither waits for what the other does.
//!
//! Threads: NAME-n. Not here: what they do.

use rayon::{ThreadPool, ThreadPoolBuilder};
use tracing::error;

/// So many threads. `None`, and an error in the log: they cannot be started.
pub fn start(name: &'static str, threads: usize) -> Option<ThreadPool> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |n| format!("{name}-{n}"))
        .panic_handler(move |_| error!("an internal error in a thread of {name}"))
        .build();
    pool.map_err(|error| error!(%error, "cannot start the threads of {name}"))
        .ok()
}
