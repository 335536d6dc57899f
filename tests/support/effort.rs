//! How much work something is, for tests: by the processor time of this thread, which does not grow with what else
//! the machine has to do.

use std::time::Duration;

/// What `work` did, and how long this thread computed for it. Linux tells that; elsewhere it is nothing.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = spent();
    let done = work();
    (done, spent().saturating_sub(before))
}

/// Does `work` on `size` things at once, and on a sixteenth of them sixteen times. Panics when the former takes much
/// longer: a step that looks at all the others again makes it sixteen times as long.
pub fn is_linear(what: &str, size: usize, mut work: impl FnMut(usize)) {
    const PIECES: usize = 16;
    // less than this is no burden, and the clock is coarse
    const NOTHING: Duration = Duration::from_millis(50);
    let ((), pieces) = of(|| (0..PIECES).for_each(|_| work(size / PIECES)));
    let ((), whole) = of(|| work(size));
    assert!(
        whole <= pieces * 5 + NOTHING,
        "{what}: {whole:?} for {size} at once, {pieces:?} for them in {PIECES} parts"
    );
}

fn spent() -> Duration {
    // what a thread has used is counted when another one gets its turn
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
