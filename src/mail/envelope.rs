//! Who a message is from and for, with the ESMTP parameters that may ride along (RFC 3461, RFC 6152).

use super::Address;

/// The envelope of one message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// `None` is the null sender `<>`: nobody is told when delivery fails.
    pub sender: Option<Address>,
    /// How much of the message a DSN returns (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// The sender's own name for this transmission, in xtext as it came (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// What the writer said of the body (RFC 6152). A hint: the bytes decide.
    pub body: Option<BodyType>,
    /// In the order of the file, duplicates folded.
    pub recipients: Vec<Recipient>,
}

/// One recipient and what is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where it goes. May be [`Address::unroutable`]: then it fails with 5.1.3 and the others go.
    pub address: Address,
    /// When to report (RFC 3461 §4.1); `None` when nothing was said: failure and delay.
    pub notify: Option<Notify>,
    /// `addr-type;xtext` as it came (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

impl Recipient {
    /// A recipient without parameters.
    pub fn plain(address: Address) -> Self {
        Self {
            address,
            notify: None,
            orcpt: None,
        }
    }

    /// Whether the sender wants to hear of this failure.
    pub fn wants_failure(&self) -> bool {
        self.notify.is_none_or(|n| n.failure)
    }

    /// Whether the sender wants to hear of this delay.
    pub fn wants_delay(&self) -> bool {
        self.notify.is_none_or(|n| n.delay)
    }

    /// Whether the sender wants to hear of a success.
    pub fn wants_success(&self) -> bool {
        self.notify.is_some_and(|n| n.success)
    }
}

/// RET (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// Return the whole message.
    Full,
    /// Return the headers only.
    Hdrs,
}

impl Ret {
    /// As it stands in an SMTP command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Hdrs => "HDRS",
        }
    }

    /// Reads it in any letter case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "FULL" => Some(Self::Full),
            "HDRS" => Some(Self::Hdrs),
            _ => None,
        }
    }
}

/// BODY (RFC 6152, RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyType {
    /// 7BIT
    SevenBit,
    /// 8BITMIME
    EightBitMime,
}

impl BodyType {
    /// As it stands in an SMTP command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
        }
    }

    /// Reads it in any letter case; BINARYMIME is taken as 8BITMIME (we never send binary).
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "7BIT" => Some(Self::SevenBit),
            "8BITMIME" | "BINARYMIME" => Some(Self::EightBitMime),
            _ => None,
        }
    }
}

/// NOTIFY (RFC 3461 §4.1). All false is NEVER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify {
    /// Report a delivery.
    pub success: bool,
    /// Report a failure.
    pub failure: bool,
    /// Report a delay.
    pub delay: bool,
}

impl Notify {
    /// `NEVER`: no report of any kind.
    pub const NEVER: Self = Self {
        success: false,
        failure: false,
        delay: false,
    };

    /// Reads `NEVER` or a comma list of `SUCCESS`, `FAILURE`, `DELAY`, in any letter case.
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(Self::NEVER);
        }
        let mut notify = Self::NEVER;
        for word in text.split(',') {
            match word.trim().to_ascii_uppercase().as_str() {
                "SUCCESS" => notify.success = true,
                "FAILURE" => notify.failure = true,
                "DELAY" => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

impl std::fmt::Display for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("NEVER");
        }
        let words = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let mut comma = "";
        for (_, word) in words.iter().filter(|(asked, _)| *asked) {
            write!(f, "{comma}{word}")?;
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_reads_what_it_writes() {
        for text in ["NEVER", "SUCCESS", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"] {
            assert_eq!(Notify::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Notify::parse("delay,failure").unwrap().to_string(),
            "FAILURE,DELAY"
        );
        assert_eq!(Notify::parse("NEVER,FAILURE"), None);
        assert_eq!(Notify::parse(""), None);
    }
}
