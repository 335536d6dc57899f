//! The line of one destination: parts that wait for a session, and sessions that wait for parts.
//!
//! A part wakes a sleeping session only when those that are awake have enough to do: one of them takes it with its next
//! look, which costs less than waking another, and what waits a moment goes out in a group (`smtp::pipeline`). A host
//! that takes its time holds up nobody: what no one has taken within a tick or two wakes another session all the same.
//!
//! Threads: dispatch puts parts in, session-n take them out. Not here: how many sessions there are (dispatch).

use super::shared::lock;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For so many parts each a session that is awake is enough.
const ENOUGH: usize = 8;

/// See above.
pub struct Line<T> {
    state: Mutex<State<T>>,
    more: Condvar,
}

struct State<T> {
    /// Each with the tick it came at.
    parts: VecDeque<(T, u64)>,
    awake: usize,
    asleep: usize,
    /// Of those awake, so many were called and have not noticed yet.
    called: usize,
    tick: u64,
    closed: bool,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                parts: VecDeque::new(),
                awake: 0,
                asleep: 0,
                called: 0,
                tick: 0,
                closed: false,
            }),
            more: Condvar::new(),
        }
    }
}

impl<T> Line<T> {
    /// One more session serves it from now on.
    pub fn enter(&self) {
        lock(&self.state).awake += 1;
    }

    /// It does so no more.
    pub fn leave(&self) {
        let mut state = lock(&self.state);
        state.awake = state.awake.saturating_sub(1);
        let wanted = !state.parts.is_empty();
        self.wake_if(wanted, &mut state);
    }

    /// How many parts wait.
    pub fn len(&self) -> usize {
        lock(&self.state).parts.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sessions have nothing to do.
    pub fn asleep(&self) -> usize {
        lock(&self.state).asleep
    }

    /// Puts a part at the end.
    pub fn push(&self, part: T) {
        let mut state = lock(&self.state);
        let now = state.tick;
        state.parts.push_back((part, now));
        let wanted = state.parts.len() > state.awake * ENOUGH;
        self.wake_if(wanted, &mut state);
    }

    /// Takes everything out.
    pub fn take_all(&self) -> Vec<T> {
        let parts = std::mem::take(&mut lock(&self.state).parts);
        parts.into_iter().map(|(part, _)| part).collect()
    }

    /// Nothing will come any more: sessions end when it is empty.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.more.notify_all();
    }

    /// To be called regularly: what waits for long wakes somebody.
    pub fn tick(&self) {
        let mut state = lock(&self.state);
        state.tick += 1;
        let now = state.tick;
        let waits = state.parts.front().is_some_and(|(_, came)| now - came > 1);
        self.wake_if(waits, &mut state);
    }

    /// The next part, if there is one.
    pub fn try_next(&self) -> Option<T> {
        lock(&self.state).parts.pop_front().map(|(part, _)| part)
    }

    /// The next part; waits for one at most for `patience`, and not at all once the line is closed.
    pub fn next(&self, patience: Duration) -> Option<T> {
        let until = Instant::now() + patience;
        let mut state = lock(&self.state);
        loop {
            if let Some((part, _)) = state.parts.pop_front() {
                return Some(part);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            state.awake = state.awake.saturating_sub(1);
            state.asleep += 1;
            state = self
                .more
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            // Called, by time or for nothing: whoever comes first is the one that was called.
            match state.called.checked_sub(1) {
                Some(called) => state.called = called,
                None => state.fall_in(),
            }
        }
    }

    fn wake_if(&self, wanted: bool, state: &mut State<T>) {
        if wanted && state.asleep > 0 {
            state.fall_in();
            state.called += 1;
            self.more.notify_one();
        }
    }
}

impl<T> State<T> {
    fn fall_in(&mut self) {
        self.asleep = self.asleep.saturating_sub(1);
        self.awake += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, unbounded};
    use std::sync::Arc;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// So many sessions that sleep; each tells its number and what it took, and goes on when it is let.
    struct Sessions {
        line: Arc<Line<u32>>,
        took: Receiver<(usize, u32)>,
        go_on: Vec<crossbeam_channel::Sender<()>>,
        threads: Vec<std::thread::JoinHandle<()>>,
    }

    fn sessions(count: usize) -> Sessions {
        let line = Arc::new(Line::default());
        let (tell, took) = unbounded();
        let (mut go_on, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (let_go, wait) = unbounded();
            go_on.push(let_go);
            line.enter();
            let (line, tell) = (Arc::clone(&line), tell.clone());
            threads.push(std::thread::spawn(move || {
                while let Some(part) = line.next(PATIENCE) {
                    tell.send((number, part)).unwrap();
                    let _ = wait.recv_timeout(PATIENCE);
                }
                line.leave();
            }));
        }
        let sessions = Sessions {
            line,
            took,
            go_on,
            threads,
        };
        sessions.all_sleep(count);
        sessions
    }

    impl Sessions {
        fn all_sleep(&self, count: usize) {
            let until = Instant::now() + PATIENCE;
            while self.line.asleep() < count && Instant::now() < until {
                std::thread::yield_now();
            }
            assert_eq!(self.line.asleep(), count);
        }

        fn end(self) {
            self.line.close();
            drop(self.go_on);
            self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    #[test]
    fn few_parts_wake_one_and_many_wake_more() {
        let sessions = sessions(4);
        (0..5).for_each(|part| sessions.line.push(part));
        let (who, part) = sessions.took.recv_timeout(PATIENCE).unwrap();
        assert_eq!(part, 0);
        assert_eq!(sessions.line.asleep(), 3, "one is enough for five");
        assert_eq!(sessions.line.try_next(), Some(1));
        (5..30).for_each(|part| sessions.line.push(part));
        assert!(sessions.line.asleep() <= 1, "one is not enough for thirty");
        sessions.go_on[who].send(()).unwrap();
        sessions.end();
    }

    #[test]
    fn what_nobody_takes_wakes_another_at_a_tick() {
        let sessions = sessions(2);
        sessions.line.push(1);
        let (slow, _) = sessions.took.recv_timeout(PATIENCE).unwrap();
        sessions.line.push(2);
        assert_eq!(sessions.line.asleep(), 1, "the one that is awake may take it");
        (0..2).for_each(|_| sessions.line.tick());
        let (other, part) = sessions.took.recv_timeout(PATIENCE).unwrap();
        assert_eq!(part, 2);
        assert_ne!(other, slow);
        sessions.end();
    }

    #[test]
    fn who_leaves_hands_on_what_waits() {
        let sessions = sessions(1);
        sessions.line.enter(); // one that is awake, and does not look
        sessions.line.push(1);
        assert_eq!(sessions.line.asleep(), 1);
        sessions.line.leave();
        assert_eq!(sessions.took.recv_timeout(PATIENCE).unwrap().1, 1);
        sessions.end();
    }

    #[test]
    fn a_closed_line_gives_what_it_has_and_then_ends() {
        let line = Line::default();
        line.enter();
        line.push(1);
        line.push(2);
        line.close();
        assert_eq!(line.next(PATIENCE), Some(1));
        assert_eq!(line.take_all(), [2]);
        assert_eq!(line.next(PATIENCE), None);
    }
}
