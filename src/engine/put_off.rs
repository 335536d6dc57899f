//! What lies in Queue because its destination does not move and others need the room: it is called when that moves.
//!
//! Threads: whoever settles puts names in, dispatch calls them, keeper takes what is called. Not here: when a line is
//! stuck (course), how much of it may stay in hand (dispatch).

use super::job::ToKeeper;
use super::shared::lock;
use crate::mail::id::Ulid;
use crossbeam_channel::Sender;
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

/// By the key of the destination; the oldest is called first. A hint: who is not waiting any more is called in vain.
#[derive(Default)]
pub struct PutOff(Mutex<HashMap<String, BTreeSet<Ulid>>>);

impl PutOff {
    /// A message that waits for this destination; keeper has been told of its release.
    pub fn note(&self, destination: &str, ulid: Ulid) {
        let mut all = lock(&self.0);
        match all.get_mut(destination) {
            Some(some) => {
                some.insert(ulid);
            }
            None => {
                all.insert(destination.to_owned(), BTreeSet::from([ulid]));
            }
        }
    }

    /// Calls as many for each destination as `how_many` says.
    pub fn call(&self, keeper: &Sender<ToKeeper>, mut how_many: impl FnMut(&str) -> usize) {
        lock(&self.0).retain(|destination, some| {
            let called: Vec<Ulid> = some.iter().take(how_many(destination)).copied().collect();
            if !called.is_empty() && keeper.try_send(ToKeeper::Called(called.clone())).is_ok() {
                called.iter().for_each(|ulid| {
                    some.remove(ulid);
                });
            } // else it has too much to do: the next time
            !some.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn as_many_are_called_as_are_wanted_and_none_is_forgotten() {
        let ulid = |n: u128| Ulid::from(n);
        let put_off = PutOff::default();
        for n in [3, 1, 2, 2] {
            put_off.note("slow", ulid(n));
        }
        put_off.note("silent", ulid(9));
        let (keeper, called) = bounded(1);
        let take = || match called.try_recv() {
            Ok(ToKeeper::Called(ulids)) => ulids,
            _ => Vec::new(),
        };
        let for_slow = |how_many| move |key: &str| if key == "slow" { how_many } else { 0 };
        put_off.call(&keeper, for_slow(2));
        put_off.call(&keeper, for_slow(2)); // keeper has not taken the former yet
        assert_eq!(take(), [ulid(1), ulid(2)]);
        put_off.call(&keeper, for_slow(2));
        assert_eq!(take(), [ulid(3)]);
        put_off.call(&keeper, |_| 100);
        assert_eq!(take(), [ulid(9)]);
        assert!(lock(&put_off.0).is_empty());
    }
}
