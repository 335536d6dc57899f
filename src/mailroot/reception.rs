//! `Status/listener/`: what listeners show there, and what is asked of them, as files.
//!
//! ```text
//! paused               no new connections, as long as it is there
//! NODE.json            the sessions of one process, written anew every second or two while there are any
//! NODE.end-ID          asks that process to end one session; NODE.end-all: every one
//! ```
//!
//! The folder belongs to the service's user, so nobody else can ask. Reads and writes: that folder only. Thread: any.

use super::error::Result;
use super::notes::Notes;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PAUSED: &str = "paused";
const SESSIONS: &str = ".json";
const END: &str = ".end-";
/// Who has not written for this long has ended.
const STALE: Duration = Duration::from_secs(15);

/// The folder.
#[derive(Debug, Clone)]
pub struct Reception {
    folder: PathBuf,
}

impl Reception {
    /// Below `folders.status`.
    pub fn of(status: &Path) -> Self {
        Self {
            folder: status.join("listener"),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Notes::make(&self.folder)?.write(name, text, 0o644)
    }

    fn remove(&self, name: &str) -> Result<()> {
        Notes::find(&self.folder)?.map_or(Ok(()), |notes| notes.remove(name))
    }

    /// No new connections from now on, or again.
    pub fn pause(&self, paused: bool) -> Result<()> {
        if paused {
            self.write(PAUSED, "")
        } else {
            self.remove(PAUSED)
        }
    }

    /// Whether there are to be no new connections.
    pub fn is_paused(&self) -> bool {
        self.folder.join(PAUSED).exists()
    }

    /// Shows the sessions of a node; `None`: it has none.
    pub fn show(&self, node: &str, sessions: Option<&str>) -> Result<()> {
        let name = format!("{node}{SESSIONS}");
        match sessions {
            Some(text) => self.write(&name, text),
            None => self.remove(&name),
        }
    }

    /// What the living nodes show: (node, text).
    pub fn shown(&self) -> Vec<(String, String)> {
        let mut shown = Vec::new();
        for (name, path) in self.names() {
            let Some(node) = name.strip_suffix(SESSIONS) else {
                continue;
            };
            if is_stale(&path) {
                continue;
            }
            if let Ok(text) = std::fs::read_to_string(&path) {
                shown.push((node.to_owned(), text));
            }
        }
        shown.sort();
        shown
    }

    /// Removes what processes have left that were killed.
    pub fn sweep(&self) {
        for (name, path) in self.names().into_iter().filter(|(name, _)| name != PAUSED) {
            if is_stale(&path) {
                let _ = self.remove(&name);
            }
        }
    }

    /// Asks a node to end a session, by its number; `None`: all.
    pub fn ask_to_end(&self, node: &str, session: Option<u64>) -> Result<()> {
        let which = session.map_or_else(|| "all".to_owned(), |number| number.to_string());
        self.write(&format!("{node}{END}{which}"), "")
    }

    /// What this node is asked to end, each once; `None`: all.
    pub fn asked(&self, node: &str) -> Vec<Option<u64>> {
        let mut asked = Vec::new();
        for (name, _) in self.names() {
            let Some(which) = name.strip_prefix(node).and_then(|rest| rest.strip_prefix(END)) else {
                continue;
            };
            let session = match which {
                "all" => Some(None),
                number => number.parse().ok().map(Some),
            };
            let _ = self.remove(&name);
            asked.extend(session);
        }
        asked
    }

    fn names(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
            .collect()
    }
}

fn is_stale(path: &Path) -> bool {
    let modified = path.metadata().and_then(|meta| meta.modified());
    let age = modified
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > STALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_and_asked() {
        let dir = tempfile::tempdir().unwrap();
        let reception = Reception::of(dir.path());
        assert!(!reception.is_paused() && reception.shown().is_empty() && reception.asked("A-1").is_empty());
        reception.pause(true).unwrap();
        assert!(reception.is_paused());
        reception.pause(false).unwrap();
        reception.pause(false).unwrap();
        assert!(!reception.is_paused());

        reception.show("A-1", Some("{}")).unwrap();
        reception.show("B-2", Some("[]")).unwrap();
        assert_eq!(
            reception.shown(),
            [
                ("A-1".to_owned(), "{}".to_owned()),
                ("B-2".to_owned(), "[]".to_owned())
            ]
        );
        reception.show("A-1", None).unwrap();
        assert_eq!(reception.shown().len(), 1);
        let stale = std::fs::File::options()
            .write(true)
            .open(dir.path().join("listener/B-2.json"))
            .unwrap();
        stale.set_modified(SystemTime::now() - STALE * 2).unwrap();
        assert!(reception.shown().is_empty());
        reception.pause(true).unwrap();
        reception.sweep();
        assert!(!dir.path().join("listener/B-2.json").exists() && reception.is_paused());

        reception.ask_to_end("A-1", Some(7)).unwrap();
        reception.ask_to_end("A-12", None).unwrap();
        assert_eq!(reception.asked("A-1"), [Some(7)]);
        assert_eq!(reception.asked("A-1"), []);
        assert_eq!(reception.asked("A-12"), [None]);
    }
}
