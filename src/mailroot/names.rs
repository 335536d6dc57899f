//! The names in Queue: what a listing means (contract §3).
//!
//! | name | means |
//! |---|---|
//! | `ID.EML` | waiting; any node may take it when it is due |
//! | `ID@NODE.EML` | taken by NODE, being worked on |
//! | `ID.HOLD` | an operator set it aside |
//! | `ID.ENV` | what the message file cannot say |
//! | `ID.LTR`, `ID.RTR` | transcripts |
//! | `NODE.n.TMP` | being written by NODE; worthless after a crash |

use crate::mail::MessageId;
use crate::mail::plain::is_printable;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::path::{MAIN_SEPARATOR_STR, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// One running process: host name, `-`, four random characters; upper-case letters, digits and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeName(Arc<str>);

/// A host name is cut to this, so that no file name of ours comes near 255 bytes.
const MAX_HOST_PART: usize = 40;

/// The host part of the names of files that prove the storage.
const PROBE: &str = "MAILROOT-PROBE";

impl NodeName {
    /// A name for this process on the host called `hostname`, never used before.
    pub fn generate(hostname: &str) -> Self {
        let host: String = hostname
            .split('.')
            .next()
            .unwrap_or("")
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '-'
                }
            })
            .take(MAX_HOST_PART)
            .collect();
        let host = host.trim_matches('-');
        let host = if host.is_empty() { "NODE" } else { host };
        // The last characters of a ULID are random bits of the system in Crockford base 32.
        let ulid = MessageId::generate().ulid.to_string();
        let random = ulid.get(22..).unwrap_or("0000");
        Self(format!("{host}-{random}").into())
    }

    /// A name for one run of the proofs of the storage (`probe`), which is no node.
    pub fn for_probe() -> Self {
        Self::generate(PROBE)
    }

    /// Whether this is such a name.
    pub fn is_probe(&self) -> bool {
        self.0.rsplit_once('-').is_some_and(|(host, _)| host == PROBE)
    }

    /// As it stands in file names.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        let (host, random) = text.rsplit_once('-').ok_or(())?;
        if host.is_empty() || random.len() != 4 || !text.bytes().all(legal) || text.len() > MAX_HOST_PART + 5
        {
            return Err(());
        }
        Ok(Self(text.into()))
    }
}

/// What one name in Queue stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueName {
    /// `ID.EML`
    Waiting(MessageId),
    /// `ID@NODE.EML`
    Taken(MessageId, NodeName),
    /// `ID.HOLD`
    Held(MessageId),
    /// `ID.ENV`
    Env(MessageId),
    /// `ID.LTR`
    LocalTranscript(MessageId),
    /// `ID.RTR`
    RemoteTranscript(MessageId),
    /// `NODE.n.TMP`
    Temporary(NodeName),
}

impl QueueName {
    /// Reads a name; `None` for what is not ours and is never touched.
    pub fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let (stem, extension) = name.rsplit_once('.')?;
        Some(match extension {
            "EML" => match stem.split_once('@') {
                None => Self::Waiting(stem.parse().ok()?),
                Some((id, node)) => Self::Taken(id.parse().ok()?, node.parse().ok()?),
            },
            "HOLD" => Self::Held(stem.parse().ok()?),
            "ENV" => Self::Env(stem.parse().ok()?),
            "LTR" => Self::LocalTranscript(stem.parse().ok()?),
            "RTR" => Self::RemoteTranscript(stem.parse().ok()?),
            "TMP" => {
                let (node, number) = stem.split_once('.')?;
                if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                Self::Temporary(node.parse().ok()?)
            }
            _ => return None,
        })
    }

    /// The message it belongs to.
    pub fn id(&self) -> Option<MessageId> {
        match self {
            Self::Waiting(id)
            | Self::Taken(id, _)
            | Self::Held(id)
            | Self::Env(id)
            | Self::LocalTranscript(id)
            | Self::RemoteTranscript(id) => Some(*id),
            Self::Temporary(_) => None,
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(id) => write!(f, "{id}.EML"),
            Self::Taken(id, node) => write!(f, "{id}@{node}.EML"),
            Self::Held(id) => write!(f, "{id}.HOLD"),
            Self::Env(id) => write!(f, "{id}.ENV"),
            Self::LocalTranscript(id) => write!(f, "{id}.LTR"),
            Self::RemoteTranscript(id) => write!(f, "{id}.RTR"),
            Self::Temporary(node) => write!(f, "{node}.0.TMP"),
        }
    }
}

/// A file name as it may stand in a log line or report: control characters and bytes that are not UTF-8 escaped.
pub fn shown(name: &OsStr) -> String {
    if let Some(plain) = name
        .to_str()
        .filter(|name| is_printable(name.as_bytes()) && !name.contains('\\'))
    {
        return plain.to_owned();
    }
    let mut out = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// Path of a message file that this node has taken: the name that is made most often.
pub fn taken_in(queue: &Path, id: MessageId, node: &NodeName) -> PathBuf {
    let mut path = OsString::with_capacity(queue.as_os_str().len() + 96);
    path.push(queue);
    path.push(MAIN_SEPARATOR_STR);
    path.push(id.ulid.array_to_str(&mut [0; ulid::ULID_LEN]));
    if id.life > 0 {
        let _ = write!(path, "-{}", id.life);
    }
    path.push("@");
    path.push(node.as_str());
    path.push(".EML");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn every_name_reads_back() {
        let id = MessageId::generate().next_life();
        let node = NodeName::generate("web-1.example.com");
        assert!(node.as_str().starts_with("WEB-1-"), "{node}");
        for name in [
            QueueName::Waiting(id),
            QueueName::Taken(id, node.clone()),
            QueueName::Held(id),
            QueueName::Env(id),
            QueueName::LocalTranscript(id),
            QueueName::RemoteTranscript(id),
            QueueName::Temporary(node),
        ] {
            assert_eq!(QueueName::parse(OsStr::new(&name.to_string())), Some(name));
        }
    }

    #[test]
    fn what_is_not_ours_is_not_touched() {
        let id = MessageId::generate();
        for name in [
            format!("{id}.eml"),
            format!("{id}@.EML"),
            format!("{id}@node-AB12.EML"),
            format!("{id}@A.EML"),
            format!("{id}"),
            "NTFS_1234.EML".into(),
            "A-AB12.x.TMP".into(),
            ".EML".into(),
        ] {
            assert_eq!(QueueName::parse(OsStr::new(&name)), None, "{name}");
        }
    }

    #[test]
    fn strange_host_names_become_legal() {
        for host in ["", "...", "ünïcode", "a_b", &"x".repeat(300)] {
            let node = NodeName::generate(host);
            assert_eq!(node.as_str().parse(), Ok(node.clone()), "{host}");
        }
    }

    #[test]
    fn names_are_shown_escaped() {
        assert_eq!(shown(OsStr::from_bytes(b"a\nb\xff.eml")), "a\\nb\\xff.eml");
    }
}
