//! The identity of a message in the tree: a ULID and its life.

use std::fmt;
use std::str::FromStr;

pub use ulid::Ulid;

/// `01J9ZK3V…` or, after a takeover, `01J9ZK3V…-1`: which message, and how often it was taken from a dead owner.
///
/// The *life* stands in every file name of the message. Whoever takes a message over raises it in the same
/// rename, so that what the former owner may still write carries an old life and is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// Time-ordered, upper case, random bits from the system.
    pub ulid: Ulid,
    /// 0 at first, one more at each takeover.
    pub life: u32,
}

impl MessageId {
    /// A new message: the present time and 80 random bits.
    pub fn generate() -> Self {
        Self {
            ulid: Ulid::generate(),
            life: 0,
        }
    }

    /// The same message in its next life.
    #[must_use]
    pub fn next_life(self) -> Self {
        Self {
            life: self.life.saturating_add(1),
            ..self
        }
    }

    /// Milliseconds since the Unix epoch at which the message became ours.
    pub fn arrived_ms(self) -> u64 {
        self.ulid.timestamp_ms()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ulid.array_to_str(&mut [0; ulid::ULID_LEN]))?;
        if self.life > 0 {
            write!(f, "-{}", self.life)?;
        }
        Ok(())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an ID that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for MessageId {
    type Err = NotAnId;

    /// Reads exactly what `Display` writes (upper case, no leading zero in the life), and nothing else:
    /// two spellings of one ID would be two files of one message.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (ulid_text, life) = match text.split_once('-') {
            None => (text, 0),
            Some((ulid, life)) => {
                if life.starts_with(['0', '+']) {
                    return Err(NotAnId);
                }
                (ulid, life.parse().map_err(|_| NotAnId)?)
            }
        };
        if ulid_text.len() != 26 || ulid_text.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(NotAnId);
        }
        let ulid: Ulid = ulid_text.parse().map_err(|_| NotAnId)?;
        if ulid.to_string() != ulid_text {
            return Err(NotAnId);
        }
        Ok(Self { ulid, life })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_only_form() {
        let id = MessageId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        let second = id.next_life();
        assert_eq!(second.to_string(), format!("{id}-1"));
        assert_eq!(second.to_string().parse(), Ok(second));
        for wrong in [
            id.to_string().to_lowercase(),
            format!("{id}-0"),
            format!("{id}-01"),
            format!("{id}-+1"),
            format!("{id}-"),
            format!("{id}x"),
            "I".repeat(26),
            String::new(),
        ] {
            assert_eq!(wrong.parse::<MessageId>(), Err(NotAnId), "{wrong}");
        }
    }
}
