//! The folders, the space on their volumes, and who can be seen writing there. Not here: proofs (`storage`).

use super::Findings;
use crate::config::{Config, units};
use crate::mailroot::evidence::{self, Writers};
use crate::mailroot::probe;
use crate::mailroot::tree::{self, Folder};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Storage that does not answer within this is as good as none.
const PATIENCE: Duration = Duration::from_secs(10);
/// Less free space than this is worth a warning, whatever the message limit.
const LITTLE_SPACE: u64 = 100 << 20;

/// Whether the folders can be used, so that more can be asked of the storage.
pub(super) fn check(config: &Config, dir: &Path, findings: &mut Findings<'_, '_>) -> bool {
    if !config.folders.pickup.exists() && !dir.exists() {
        let what = format!("there is no mailroot at {}", dir.display());
        findings.fail(
            "folders",
            &what,
            &format!(
                "make one with `mailroot init {}`, or name another DIR",
                dir.display()
            ),
        );
        return false;
    }
    let folders = tree::folders(&config.folders);
    let mut usable = true;
    for folder in &folders {
        usable &= one_folder(folder, findings);
    }
    same_place(&folders, findings);
    owner(config, findings);
    if !usable {
        findings.note(
            "disk",
            "not looked at, because folders are missing or cannot be used",
        );
        return false;
    }
    volumes(config, &folders, findings);
    leases(config, findings);
    true
}

/// Whether it can be used as it is.
fn one_folder(folder: &Folder<'_>, findings: &mut Findings<'_, '_>) -> bool {
    let (name, shown) = (folder.name, folder.path.display());
    let meta = match folder.path.metadata() {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            findings.fail(
                "folders",
                &format!("{name} {shown} is not a folder"),
                "move it away, or change [folders]",
            );
            return false;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.warn(
                "folders",
                &format!("{name} {shown} is missing"),
                "`mailroot init` or `mailroot run` makes it",
            );
            return false;
        }
        Err(error) => {
            findings.fail(
                "folders",
                &format!("{name} {shown}: {error}"),
                "let the service's user get there",
            );
            return false;
        }
    };
    let path = folder.path.to_owned();
    match probe::bounded(PATIENCE, move || probe::writing(&path)) {
        Some(Ok(_)) => {}
        Some(Err(error)) => {
            let advice = format!(
                "it belongs to uid {}, mode {:o}; we are uid {}",
                meta.uid(),
                meta.mode() & 0o7777,
                uid()
            );
            findings.fail("folders", &format!("{name}: {error}"), &advice);
            return false;
        }
        None => {
            findings.fail(
                "folders",
                &format!("{name} {shown} does not answer"),
                "look after the storage it is on",
            );
            return false;
        }
    }
    let mode = meta.mode() & 0o7777;
    match doubtful_mode(name, mode) {
        Some((what, advice)) => {
            findings.warn(
                "folders",
                &format!("{name} {shown}, mode {mode:04o}: {what}"),
                &format!("chmod {advice} {shown}"),
            );
        }
        None => findings.ok(
            "folders",
            &format!("{name} {shown}, uid {}, mode {mode:04o}: writable", meta.uid()),
        ),
    }
    true
}

/// What a mode lets others do that they should not, and a better one.
fn doubtful_mode(name: &str, mode: u32) -> Option<(&'static str, &'static str)> {
    let others_write = mode & 0o002 != 0;
    let sticky = mode & 0o1000 != 0;
    match name {
        "Pickup" if (others_write || mode & 0o020 != 0) && !sticky => {
            Some(("whoever may add files may also take and change another's", "+t"))
        }
        "Pickup" => None,
        "Queue" | "Badmail" if mode & 0o007 != 0 => Some(("everyone can reach other people's mail", "o-rwx")),
        _ if others_write && !sticky => Some(("everyone may put and remove files here", "o-w")),
        _ => None,
    }
}

/// Links can make one folder of two that have different names.
fn same_place(folders: &[Folder<'_>], findings: &mut Findings<'_, '_>) {
    let mut seen: HashMap<(u64, u64), &str> = HashMap::new();
    for folder in folders {
        let Ok(meta) = folder.path.metadata() else {
            continue;
        };
        if let Some(first) = seen.insert((meta.dev(), meta.ino()), folder.name) {
            let what = format!("{first} and {} are the same folder by way of a link", folder.name);
            findings.fail("folders", &what, "give each a folder of its own");
        }
    }
}

/// Claiming in a sticky Pickup needs its owner; what is found here as another user says little about the service.
fn owner(config: &Config, findings: &mut Findings<'_, '_>) {
    let owners = [&config.folders.pickup, &config.folders.queue]
        .map(|folder| folder.metadata().map(|meta| meta.uid()).ok());
    let [Some(pickup), Some(queue)] = owners else {
        return;
    };
    if pickup != queue {
        let what = format!(
            "Pickup belongs to uid {pickup}, Queue to uid {queue}: the service must own both (or be root)"
        );
        findings.warn(
            "folders",
            &what,
            &format!("chown both to the service's user; run it as uid {pickup}"),
        );
    } else if uid() != queue {
        let what = format!(
            "checked as uid {}, but the folders belong to uid {queue}: run this check as the service's user",
            uid()
        );
        findings.note("folders", &what);
    }
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn volumes(config: &Config, folders: &[Folder<'_>], findings: &mut Findings<'_, '_>) {
    let mut volumes: Vec<(u64, Vec<&Folder<'_>>)> = Vec::new();
    for folder in folders {
        let Ok(meta) = folder.path.metadata() else {
            continue;
        };
        match volumes.iter_mut().find(|(dev, _)| *dev == meta.dev()) {
            Some((_, list)) => list.push(folder),
            None => volumes.push((meta.dev(), vec![folder])),
        }
    }
    for (_, list) in volumes {
        free_space(config, &list, findings);
    }
}

fn free_space(config: &Config, on_volume: &[&Folder<'_>], findings: &mut Findings<'_, '_>) {
    let Some(first) = on_volume.first() else { return };
    let names: Vec<&str> = on_volume.iter().map(|folder| folder.name).collect();
    let names = names.join(", ");
    let bytes = match fs2::available_space(first.path) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.note(
                "disk",
                &format!("the free space for {names} cannot be told: {error}"),
            );
            return;
        }
    };
    let inodes = rustix::fs::statvfs(first.path)
        .ok()
        .filter(|stat| stat.f_files > 0)
        .map(|stat| stat.f_favail);
    let what = format!("{} free for {names}", units::show_size(bytes));
    if bytes < LITTLE_SPACE.max(config.messages.max_size.saturating_mul(2)) {
        findings.warn(
            "disk",
            &what,
            "make room: mail that cannot be recorded is not taken",
        );
    } else if let Some(few) = inodes.filter(|n| *n < 10_000) {
        findings.warn(
            "disk",
            &format!("{what}, but only {few} more files"),
            "make room: each message is a file",
        );
    } else {
        findings.ok("disk", &what);
    }
}

/// Whether writers can be seen, or must be waited for.
fn leases(config: &Config, findings: &mut Findings<'_, '_>) {
    let pickup = config.folders.pickup.clone();
    let seen = probe::bounded(PATIENCE, move || probe::lease(&pickup));
    let settle = units::show_duration(config.pickup.settle);
    let waiting = format!("a file is taken when it did not change for {settle} (pickup.settle)");
    if evidence::is_shared_storage(&config.folders.pickup) {
        findings.note(
            "disk",
            &format!(
                "Pickup is on network or user-space storage, where not all writers can be seen: {waiting}"
            ),
        );
        return;
    }
    match seen {
        Some(Ok(Writers::None)) if may_lease_files_of_others() => {
            findings.ok("disk", "a program that is still writing a file in Pickup is seen");
        }
        Some(Ok(Writers::None)) => findings.note(
            "disk",
            &format!(
                "who writes to files of other users cannot be asked without CAP_LEASE: for those, {waiting}"
            ),
        ),
        _ => findings.note(
            "disk",
            &format!("this storage does not tell who writes to a file: {waiting}"),
        ),
    }
}

/// CAP_LEASE (28) among our effective capabilities.
fn may_lease_files_of_others() -> bool {
    const CAP_LEASE: u32 = 28;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = bits.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << CAP_LEASE) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_let_others_in() {
        for (name, mode, doubtful) in [
            ("Pickup", 0o1777, false),
            ("Pickup", 0o1733, false),
            ("Pickup", 0o777, true),
            ("Pickup", 0o770, true),
            ("Pickup", 0o755, false),
            ("Queue", 0o700, false),
            ("Queue", 0o755, true),
            ("Badmail", 0o750, false),
            ("Drop", 0o2770, false),
            ("Drop", 0o777, true),
            ("Status", 0o755, false),
        ] {
            assert_eq!(doubtful_mode(name, mode).is_some(), doubtful, "{name} {mode:o}");
        }
    }
}
