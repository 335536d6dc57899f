//! What keeper learns of a message that waits in Queue before it is taken: when it is due, whether somebody touched it,
//! whom it waits for. All of it is a hint: the truth is what is read after the claim.
//!
//! Reads: ENV files, the first line of a message. Writes: nothing. Thread: keeper's rayon.

pub use super::hold::Held;
use super::hold::Holds;
use super::shared::Settings;
use super::undelivered;
use crate::clock::{self, Millis};
use crate::mail::MessageId;
use crate::mail::id::Ulid;
use crate::mailroot::OpenFolder;
use crate::queue::env;
use crate::queue::record::Record;
use std::time::Duration;

/// "Its time is no longer the one that ENV remembers, give or take two seconds": some storage keeps whole seconds.
const TOUCH_TOLERANCE: u64 = 2_000_000_000;
/// Records may have been written under settings with longer waits than today's.
const LEAST_LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// A file's time in nanoseconds, as short as it can be kept.
pub type Nanos = i64;

/// What is known of a waiting message. There may be a million of them.
#[derive(Clone)]
pub struct Waiting {
    /// Of its file.
    pub life: u32,
    /// When to take it.
    pub due: Millis,
    /// Of the message file, as ENV remembers it; 0 when there is no ENV.
    pub file_time: Nanos,
    /// The last listing that showed it.
    pub round: u8,
    /// See there.
    pub marks: Marks,
    /// For its domain, or for room in Badmail, not only for the time.
    pub held: Held,
    /// It is a report of ours on this message.
    pub parent: Option<Box<Ulid>>,
}

/// Two marks in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(u8);

impl Marks {
    const FORCED: u8 = 1;
    const PUT_OFF: u8 = 2;

    /// Both at once.
    pub fn new(forced: bool, put_off: bool) -> Self {
        Self(u8::from(forced) * Self::FORCED + u8::from(put_off) * Self::PUT_OFF)
    }

    /// It was touched: the schedule does not count.
    pub fn forced(self) -> bool {
        self.0 & Self::FORCED != 0
    }

    /// It is taken earlier when it is called.
    pub fn put_off(self) -> bool {
        self.0 & Self::PUT_OFF != 0
    }

    /// The schedule does not count any more.
    pub fn force(&mut self) {
        self.0 |= Self::FORCED;
    }
}

/// As far as there is room: to the year 2262.
pub fn nanos(time: i128) -> Nanos {
    Nanos::try_from(time).unwrap_or(if time < 0 { Nanos::MIN } else { Nanos::MAX })
}

/// The record of `id`, or why it is none.
pub fn parse(bytes: &[u8], id: MessageId) -> Result<Record, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let record = env::read(text).map_err(|error| error.to_string())?;
    if !env::is_valid_for(record.id, id) {
        return Err(format!("it is the record of another message, {}", record.id));
    }
    Ok(record)
}

/// What a record says of a message that was not known.
pub fn first_sight(
    settings: &Settings,
    holds: &Holds,
    queue: &OpenFolder,
    id: MessageId,
    file_time: Nanos,
) -> Waiting {
    let mut fresh = Waiting {
        life: id.life,
        due: 0,
        file_time: 0,
        round: 0,
        marks: Marks::default(),
        held: Held::NOT,
        parent: None,
    };
    // What cannot be read or understood now is settled after the claim.
    let Ok(Some(bytes)) = queue.read_env(id) else {
        fresh.parent = parent_by_file(queue, id).map(Box::new);
        return fresh;
    };
    let Ok(record) = parse(&bytes, id) else {
        return fresh;
    };
    let (held, freed) = holds.of(settings, &record);
    let is_wanted = held.is_any() && holds.free_any(settings, &record);
    let due = record.due().unwrap_or(0);
    let remembered = nanos(record.file_time);
    let forced = freed || differs(remembered, file_time) || is_too_far(settings, due);
    Waiting {
        due: if forced || is_wanted { 0 } else { due },
        file_time: remembered,
        marks: Marks::new(forced, false),
        held,
        parent: undelivered::parent_of(record.sender.as_ref(), record.envid.as_deref()).map(Box::new),
        ..fresh
    }
}

/// The message that a report without a record is about: its leading block is as we write it.
fn parent_by_file(queue: &OpenFolder, id: MessageId) -> Option<Ulid> {
    let mut top = [0; 256];
    let top = queue.begin_of(&format!("{id}.EML"), &mut top).ok()?;
    let line = top.split(|&b| b == b'\n').next()?;
    let (sender, envid) = std::str::from_utf8(line).ok()?.trim_end().split_once(" ENVID=")?;
    (sender == "x-sender: <>")
        .then(|| undelivered::parent_of(None, Some(envid)))
        .flatten()
}

/// Further away than any wait: it was reckoned by a clock that was wrong. So the schedule does not count.
pub fn is_too_far(settings: &Settings, due: Millis) -> bool {
    due > clock::now().saturating_add(longest_wait(settings))
}

/// The longest that a schedule lets anything wait, with its jitter.
fn longest_wait(settings: &Settings) -> Millis {
    let schedules = [&settings.config.delivery.schedule, &settings.config.drop.schedule];
    let waits = schedules.iter().flat_map(|schedule| &schedule.retry);
    let longest = waits.max().copied().unwrap_or(LEAST_LONGEST_WAIT);
    let longest = longest.max(LEAST_LONGEST_WAIT).as_millis() * 5 / 4;
    u64::try_from(longest).unwrap_or(u64::MAX)
}

/// Whether a file has been touched since.
pub fn differs(remembered: Nanos, seen: Nanos) -> bool {
    remembered.abs_diff(seen) > TOUCH_TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_take_little() {
        assert_eq!(size_of::<Waiting>(), 32);
        let mut marks = Marks::new(false, true);
        assert!(!marks.forced() && marks.put_off());
        marks.force();
        assert!(marks.forced() && marks.put_off());
    }
}
