//! One running process among others on the tree: its heartbeat file and its lock (contract §6).
//!
//! Reads and writes: `Status/nodes/NODE.json` (rewritten in place), `NODE.LCK`. Thread: heart. Not here: what is
//! done with the claims of a dead node (engine/keeper).

use super::error::{DiskError, Result};
use super::hanging;
use super::locks;
use super::names::NodeName;
use super::volume::Volume;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Our own presence. Dropping it leaves the files for others to find; [`Node::leave`] removes them.
#[derive(Debug)]
pub struct Node {
    folder: PathBuf,
    name: NodeName,
    facts: Heartbeat,
    volume: Volume,
    /// Held as long as the process lives. `None` where the storage refuses locks.
    _lock: Option<File>,
}

/// What stands in `NODE.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Grows with each beat.
    pub counter: u64,
    /// Host name.
    pub host: String,
    /// Identity of this start of the operating system; empty where the system has none.
    pub boot: String,
    /// Identity of the space of process numbers: containers of one boot have one each. Empty where the system has none.
    #[serde(default)]
    pub pids: String,
    /// Process number.
    pub pid: u32,
    /// When that process started, in the system's own ticks; tells a reused number apart.
    pub started: u64,
    /// Of mailroot.
    pub version: String,
    /// When this was written, for people.
    pub at: String,
}

/// How long a lock that hangs may keep us.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

impl Node {
    /// Takes the lock and beats once.
    pub fn enter(status: &Path, name: NodeName, host: &str) -> Result<Self> {
        let folder = status.join("nodes");
        std::fs::create_dir_all(&folder).map_err(DiskError::when("create", &folder))?;
        let lock = match lock_with_patience(folder.join(format!("{name}.LCK"))) {
            Locked::By(file) => Some(file),
            Locked::Unknown | Locked::Refused => None,
        };
        let pid = std::process::id();
        let facts = Heartbeat {
            counter: 0,
            host: host.to_owned(),
            boot: boot_id(),
            pids: process_numbers(),
            pid,
            started: process_start(pid).unwrap_or(0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: String::new(),
        };
        let mut node = Self {
            folder,
            name,
            facts,
            volume: Volume::of(status),
            _lock: lock,
        };
        node.beat()?;
        Ok(node)
    }

    /// Goes on under another name. An error when the volume of Status is not mounted: in the folder that it leaves
    /// behind we make nothing.
    pub fn anew(&self, name: NodeName) -> Result<Self> {
        let status = self.folder.parent().unwrap_or(&self.folder);
        self.volume
            .is_in_place()
            .map_err(DiskError::when("use", status))?;
        Self::enter(status, name, &self.facts.host)
    }

    /// Rewrites the heartbeat in place: open, write, close – never by rename.
    pub fn beat(&mut self) -> Result<()> {
        self.facts.counter += 1;
        self.facts.at = jiff::Timestamp::now().to_string();
        let path = heartbeat_path(&self.folder, &self.name);
        let _asking = hanging::asking("write", &path);
        let mut text = to_json(&self.facts);
        text.push('\n');
        let mut written = rewrite(&path, text.as_bytes());
        if matches!(&written, Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle) {
            written = rewrite(&path, text.as_bytes()); // others took us for dead and removed it: it is made anew
        }
        written.map_err(DiskError::when("write", &path))
    }

    /// A clean end: both files go.
    pub fn leave(self) {
        forget(&self.folder, &self.name);
    }
}

fn rewrite(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

/// Removes the two files of a node that has ended or is dead.
pub fn forget(nodes_folder: &Path, name: &NodeName) {
    let _ = std::fs::remove_file(heartbeat_path(nodes_folder, name));
    let _ = std::fs::remove_file(nodes_folder.join(format!("{name}.LCK")));
}

/// What a process leaves that was ended as it entered or left: files, but no heartbeat in them, and nobody holds the
/// lock. It had no message yet, or none any more. One that enters at this very moment makes its heartbeat file anew
/// with its next beat.
pub fn is_remnant(nodes_folder: &Path, name: &NodeName) -> bool {
    let lock = nodes_folder.join(format!("{name}.LCK"));
    let unheard = || heartbeat_text(nodes_folder, name).is_none_or(|text| parse_heartbeat(&text).is_none());
    unheard() && (!lock.exists() || matches!(lock_with_patience(lock), Locked::By(_))) && unheard()
}

/// The names of all nodes that have a heartbeat file or a lock file. An error is no sign that there are none.
pub fn known(nodes_folder: &Path) -> Result<Vec<NodeName>> {
    let entries = hanging::read_dir(nodes_folder).map_err(DiskError::when("list", nodes_folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(DiskError::when("list", nodes_folder))?.file_name();
        let parts = name.to_str().and_then(|name| name.rsplit_once('.'));
        if let Some((stem, "json" | "LCK")) = parts
            && let Ok(name) = stem.parse()
        {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The text of a node's heartbeat file; `None` when it is missing or cannot be read.
pub fn heartbeat_text(nodes_folder: &Path, name: &NodeName) -> Option<String> {
    let mut text = String::new();
    File::open(heartbeat_path(nodes_folder, name))
        .ok()?
        .take(64 * 1024)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// Rule (a) of contract §6: of our own boot, its process is gone and nobody holds its lock.
pub fn is_gone_from_here(nodes_folder: &Path, name: &NodeName, heartbeat: &str) -> bool {
    let Some(facts) = parse_heartbeat(heartbeat).filter(Heartbeat::is_in_sight) else {
        return false;
    };
    if facts.pid == std::process::id() || process_lives(facts.pid, facts.started) {
        return false;
    }
    let lock = nodes_folder.join(format!("{name}.LCK"));
    // Where locks are refused there is nothing to ask; that the process is gone is proof enough.
    !lock.exists() || matches!(lock_with_patience(lock), Locked::By(_) | Locked::Refused)
}

/// Of our own boot, and its process lives: whatever its heartbeat file shows at present, it is not dead.
pub fn lives_here(heartbeat: &str) -> bool {
    parse_heartbeat(heartbeat)
        .filter(Heartbeat::is_in_sight)
        .is_some_and(|facts| process_lives(facts.pid, facts.started))
}

/// What the node calls itself to other hosts.
pub fn host(heartbeat: &str) -> Option<String> {
    Some(parse_heartbeat(heartbeat)?.host)
}

impl Heartbeat {
    /// Whether its process number means something to us: same boot, and not in another container.
    fn is_in_sight(&self) -> bool {
        !self.boot.is_empty() && self.boot == boot_id() && self.pids == process_numbers()
    }
}

fn heartbeat_path(nodes_folder: &Path, name: &NodeName) -> PathBuf {
    nodes_folder.join(format!("{name}.json"))
}

/// What trying a lock came to.
enum Locked {
    /// By us, as long as the file is open.
    By(File),
    /// Another process holds it, or nobody knows: the storage does not answer.
    Unknown,
    /// The storage knows no locks.
    Refused,
}

/// On some storage a lock is ignored and on some it hangs: tried on a thread of its own, with a time limit.
fn lock_with_patience(path: PathBuf) -> Locked {
    let (answer, wait) = crossbeam_channel::bounded(1);
    let spawned = std::thread::Builder::new().name("lock".into()).spawn(move || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let Ok(file) = file else {
            return drop(answer.send(Locked::Unknown));
        };
        let locked = match locks::try_exclusive(&file) {
            None => Locked::Unknown,
            Some(Ok(())) => Locked::By(file),
            Some(Err(error))
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP)
                ) =>
            {
                Locked::Refused
            }
            Some(Err(_)) => Locked::Unknown,
        };
        let _ = answer.send(locked);
    });
    if spawned.is_err() {
        return Locked::Unknown;
    }
    wait.recv_timeout(LOCK_PATIENCE).unwrap_or(Locked::Unknown)
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Whose loopback address ours is: this start of this machine, or of this container. `None`: the system does not say.
pub fn here() -> Option<String> {
    let network = std::fs::read_link("/proc/self/ns/net").ok()?;
    let boot = Some(boot_id()).filter(|boot| !boot.is_empty())?;
    Some(format!("{boot} {}", network.display()))
}

/// Which space of process numbers is ours; empty where the system has but one.
fn process_numbers() -> String {
    std::fs::read_link("/proc/self/ns/pid")
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Whether the process of this number that started then is there. One that we may not look at is there.
fn process_lives(pid: u32, started: u64) -> bool {
    use rustix::process::{Pid, test_kill_process};
    match process_start(pid) {
        Some(start) => start == started,
        None if is_zombie(pid) => false,
        None => i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH)),
    }
}

/// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); `None` when it is gone.
fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; count from the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    if has_ended(rest) {
        return None; // a zombie holds nothing any more
    }
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn has_ended(after_name: &str) -> bool {
    after_name.trim_start().starts_with(['Z', 'X'])
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| has_ended(rest)))
}

fn to_json(facts: &Heartbeat) -> String {
    serde_json::to_string(facts).unwrap_or_default()
}

fn parse_heartbeat(text: &str) -> Option<Heartbeat> {
    serde_json::from_str(text.lines().next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_node_is_not_gone_and_a_dead_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = dir.path().join("nodes");
        let name = NodeName::generate("a");
        let mut node = Node::enter(dir.path(), name.clone(), "a").unwrap();
        let first = heartbeat_text(&nodes, &name).unwrap();
        node.beat().unwrap();
        let second = heartbeat_text(&nodes, &name).unwrap();
        assert_ne!(first, second);
        assert_eq!(known(&nodes).unwrap(), vec![name.clone()]);
        assert!(!is_gone_from_here(&nodes, &name, &second));

        let facts = parse_heartbeat(&second).unwrap();
        let dead = to_json(&Heartbeat {
            pid: u32::MAX - 1,
            ..facts.clone()
        });
        assert!(!is_gone_from_here(&nodes, &name, &dead), "its lock is still held");
        drop(node);
        assert!(is_gone_from_here(&nodes, &name, &dead));
        let elsewhere = to_json(&Heartbeat {
            boot: "other".into(),
            pid: u32::MAX - 1,
            ..facts.clone()
        });
        assert!(
            !is_gone_from_here(&nodes, &name, &elsewhere),
            "only the lease tells of other machines"
        );
        let container = to_json(&Heartbeat {
            pids: "pid:[1]".into(),
            pid: u32::MAX - 1,
            ..facts
        });
        assert!(
            !is_gone_from_here(&nodes, &name, &container),
            "a number of another container says nothing here"
        );
    }

    #[test]
    fn files_without_a_heartbeat_and_a_holder_are_a_remnant() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = dir.path().join("nodes");
        let name = NodeName::generate("a");
        let node = Node::enter(dir.path(), name.clone(), "a").unwrap();
        let whole = heartbeat_text(&nodes, &name).unwrap();
        assert!(!is_remnant(&nodes, &name));
        std::fs::write(heartbeat_path(&nodes, &name), "").unwrap();
        assert!(!is_remnant(&nodes, &name), "its lock is held");
        drop(node);
        assert!(is_remnant(&nodes, &name), "cut short as it entered");
        std::fs::write(heartbeat_path(&nodes, &name), &whole[..40]).unwrap();
        assert!(is_remnant(&nodes, &name), "cut short in the middle of the line");
        std::fs::write(heartbeat_path(&nodes, &name), whole).unwrap();
        assert!(!is_remnant(&nodes, &name), "it had entered");
        std::fs::remove_file(heartbeat_path(&nodes, &name)).unwrap();
        assert!(is_remnant(&nodes, &name), "cut short as it left");
    }

    #[test]
    fn leaving_removes_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::enter(dir.path(), NodeName::generate("a"), "a").unwrap();
        node.leave();
        assert_eq!(known(&dir.path().join("nodes")).unwrap(), vec![]);
    }
}
