//! The proofs of the storage, and what they come to: for one process, for several, after a power cut.
//!
//! Reads and writes: through `mailroot::probe`. What is asked, and what an answer is worth, is decided there;
//! the sentences are in `storage_words`.

use super::Findings;
use super::storage_words::words;
use crate::cli::Place;
use crate::config::Config;
use crate::mailroot::probe::{Ground, Kind, Means, Proof, Real, Sort};
use crate::mailroot::tree;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

const TOPIC: &str = "storage";
const OTHER_STORAGE: &str = "use other storage: who owns a message rests on this";

/// Asks the storage, and says what holds there.
pub(super) fn check(config: &Config, place: &Place, peer: Option<&Path>, findings: &mut Findings<'_, '_>) {
    let kinds = kinds(config);
    for (kind, folders) in &kinds {
        findings.ok(TOPIC, &format!("{}: {}", folders.join(", "), kind_in_words(kind)));
        if kind.has("nolock") || kind.has("local_lock=all") || kind.has("local_lock=flock") {
            findings.note(TOPIC, "mounted so that locks hold on this machine only");
        }
    }
    let mut ground = Ground {
        storage: Arc::new(Real),
        folders: config.folders.clone(),
        peer: None,
        lease: config.cluster.lease,
        hung: false.into(),
    };
    let mut sum = Sum::default();
    ground.prove(&mut |proof| sum.add(&proof, config, findings));
    let machines = match peer {
        None => Machines::NotAsked,
        Some(peer) => through_peer(&mut ground, config, place, peer, &mut sum, findings),
    };
    sum.tell(&machines, &kinds, place, findings);
    power(&kinds, sum.here.power, findings);
}

/// What is known of several machines.
enum Machines {
    /// No second mount was named.
    NotAsked,
    /// It could not be asked.
    NotShown(&'static str),
    /// The proofs say.
    Shown,
}

fn through_peer(
    ground: &mut Ground,
    config: &Config,
    place: &Place,
    peer: &Path,
    sum: &mut Sum,
    findings: &mut Findings<'_, '_>,
) -> Machines {
    let shown = peer.display();
    let settings = Some(place.settings_file()).filter(|file| file.exists());
    let there = Place {
        dir: peer.to_owned(),
        config_file: settings,
        log_format: None,
    };
    let folders = match there.load() {
        Ok(loaded) => loaded.config.folders,
        Err(error) => {
            findings.fail(TOPIC, &format!("--peer {shown}: {error}"), "name a mailroot");
            return Machines::NotShown("--peer cannot be used");
        }
    };
    if folders.queue == config.folders.queue || folders.pickup == config.folders.pickup {
        let what = format!(
            "--peer {shown} leads to the same path as DIR: a second mount has another path (folders with a full \
             path in [folders] cannot be looked at in this way)"
        );
        findings.fail(TOPIC, &what, "name the same mailroot through another mount");
        return Machines::NotShown("--peer is no second way there");
    }
    let device = |folder: &Path| folder.metadata().map(|meta| meta.dev()).ok();
    let one_mount = device(&folders.queue) == device(&config.folders.queue);
    ground.peer = Some(folders);
    if !ground.prove_through_peer(&mut |proof| sum.add(&proof, config, findings)) {
        findings.fail(
            TOPIC,
            &format!(
                "--peer {shown} is not the same mailroot: a file made in one does not appear in the other"
            ),
            "name the same mailroot through another mount",
        );
        return Machines::NotShown("--peer is not the same mailroot");
    }
    if one_mount {
        return Machines::NotShown("DIR and --peer are one file system to this kernel (a bind mount?)");
    }
    Machines::Shown
}

/// The worst for each.
#[derive(Clone, Copy)]
struct Worst {
    one: Means,
    several: Means,
    power: Means,
}

impl Default for Worst {
    fn default() -> Self {
        Self {
            one: Means::Silent,
            several: Means::Silent,
            power: Means::Silent,
        }
    }
}

/// What all proofs come to.
#[derive(Default)]
struct Sum {
    here: Worst,
    through_peer: Worst,
}

impl Sum {
    fn add(&mut self, proof: &Proof, config: &Config, findings: &mut Findings<'_, '_>) {
        let means = proof.means(config.cluster.heartbeat, config.cluster.lease);
        let worst = if proof.through_peer {
            &mut self.through_peer
        } else {
            &mut self.here
        };
        worst.one = worst.one.max(means.one);
        worst.several = worst.several.max(means.several);
        worst.power = worst.power.max(means.power);
        let (what, advice) = words(proof, config.cluster.lease);
        match means.one.max(means.several).max(means.power) {
            Means::Missing => findings.fail(
                TOPIC,
                &what,
                if advice.is_empty() { OTHER_STORAGE } else { advice },
            ),
            Means::Weaker if !advice.is_empty() => findings.warn(TOPIC, &what, advice),
            Means::Weaker => findings.note(TOPIC, &what),
            Means::Holds | Means::Silent => findings.ok(TOPIC, &what),
        }
    }

    fn tell(
        &self,
        machines: &Machines,
        kinds: &[(Kind, Vec<&'static str>)],
        place: &Place,
        findings: &mut Findings<'_, '_>,
    ) {
        let mut verdict = |who: &str, means: Means| match means {
            Means::Missing => findings.fail(
                TOPIC,
                &format!("{who}: NO"),
                "see the failures above; `mailroot run` refuses where messages could be lost or doubled",
            ),
            _ => findings.ok(TOPIC, &format!("{who}: yes")),
        };
        verdict("one process", self.here.one);
        verdict("several nodes on this machine", self.here.several);
        match machines {
            Machines::Shown => verdict(
                "several machines (by this second mount)",
                self.here.several.max(self.through_peer.several).max(self.through_peer.one),
            ),
            Machines::NotShown(why) => {
                if self.through_peer.several == Means::Missing || self.through_peer.one == Means::Missing {
                    verdict("several nodes by way of both", Means::Missing);
                }
                findings.note(TOPIC, &format!("several machines: not shown: {why}"));
            }
            Machines::NotAsked => match kinds.iter().find(|(kind, _)| is_of_one_machine(kind.sort())) {
                Some((kind, _)) => findings.note(
                    TOPIC,
                    &format!("several machines: no: {} belongs to one machine", kind.name),
                ),
                None => findings.note(
                    TOPIC,
                    &format!(
                        "several machines: not looked at: run `mailroot check {} --peer DIR2`, where DIR2 is the same \
                         mailroot through another mount",
                        place.shown()
                    ),
                ),
            },
        }
    }
}

fn is_of_one_machine(sort: Sort) -> bool {
    matches!(sort, Sort::Disk | Sort::Plain | Sort::Memory | Sort::Layers)
}

/// The mounts that the folders are on, and which folders are on each.
fn kinds(config: &Config) -> Vec<(Kind, Vec<&'static str>)> {
    let mut kinds: Vec<(Kind, Vec<&'static str>)> = Vec::new();
    for folder in tree::folders(&config.folders) {
        let kind = Kind::of(folder.path);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, folders)) => folders.push(folder.name),
            None => kinds.push((kind, vec![folder.name])),
        }
    }
    kinds
}

fn kind_in_words(kind: &Kind) -> String {
    let what = match kind.sort() {
        Sort::Disk | Sort::Plain => "a disk of this machine",
        Sort::Memory => "memory of this machine",
        Sort::Layers => "layers over other storage",
        Sort::Network => "storage of other machines",
        Sort::Program => "a program of this machine answers for it",
        Sort::Unknown => "a kind that mailroot does not know",
    };
    let name = if kind.name.is_empty() {
        "unknown"
    } else {
        &kind.name
    };
    format!("{name} ({}), {what}", kind.source)
}

/// Nobody can show a power cut without one: this is what the kind of storage promises, beside that a sync is answered.
fn power(kinds: &[(Kind, Vec<&'static str>)], syncs: Means, findings: &mut Findings<'_, '_>) {
    if syncs == Means::Missing {
        findings.fail(
            TOPIC,
            "power cuts: NO: nothing can be synced",
            "see the failure above",
        );
        return;
    }
    for (kind, folders) in kinds {
        if folders.as_slice() == ["Logs"] {
            continue;
        }
        let name = &kind.name;
        let who = if kinds.len() == 1 {
            "power cuts".to_owned()
        } else {
            format!("power cuts ({})", folders.join(", "))
        };
        let no_barrier = kind.has("nobarrier") || kind.has("barrier=0");
        match kind.sort() {
            Sort::Memory => findings.warn(
                TOPIC,
                &format!("{who}: NO: {name} is memory: a power cut or a restart of the machine loses all mail"),
                "put the mailroot on a disk",
            ),
            Sort::Layers if kind.has("volatile") => findings.warn(
                TOPIC,
                &format!("{who}: NO: this {name} is mounted volatile: nothing is synced"),
                "put the mailroot on a volume of its own",
            ),
            Sort::Disk | Sort::Plain if no_barrier => findings.warn(
                TOPIC,
                &format!("{who}: NO: this {name} is mounted without barriers: what was synced may be lost"),
                "mount it with barriers",
            ),
            Sort::Disk if kind.has("data=writeback") => findings.warn(
                TOPIC,
                &format!(
                    "{who}: {name} is mounted with data=writeback: a message that was removed just before may come back \
                     with bytes of another one in it"
                ),
                "mount it with data=ordered, the default",
            ),
            Sort::Disk => findings.ok(
                TOPIC,
                &format!("{who}: yes, as far as the disk keeps what it says it has synced ({name})"),
            ),
            Sort::Plain => findings.warn(
                TOPIC,
                &format!("{who}: {name} keeps no journal: a power cut can damage its folders"),
                "use ext4 or xfs",
            ),
            Sort::Layers => findings.note(TOPIC, &format!("{who}: as the upper layer of this {name} keeps them")),
            Sort::Network => findings.note(
                TOPIC,
                &format!("{who}: as the server of this {name} keeps what it says it has synced (NFS: export with sync)"),
            ),
            Sort::Program | Sort::Unknown => {
                findings.note(TOPIC, &format!("{who}: not known of {name}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::page::Page;

    #[test]
    fn how_it_is_mounted_tells_what_a_power_cut_does() {
        for (name, option, told) in [
            ("ext4", "rw", "ok"),
            ("ext4", "data=writeback", "bytes of another one"),
            ("ext4", "nobarrier", "without barriers"),
            ("ext2", "rw", "keeps no journal"),
            ("tmpfs", "rw", "is memory"),
        ] {
            let kind = Kind {
                name: name.to_owned(),
                source: "/dev/sda1".to_owned(),
                options: vec![option.to_owned()],
            };
            let mut out = Vec::new();
            let mut page = Page::new(&mut out);
            power(
                &[(kind, vec!["Queue"])],
                Means::Holds,
                &mut Findings::new(&mut page),
            );
            let out = String::from_utf8(out).unwrap();
            assert!(out.contains(told), "{name} {option}: {out}");
        }
    }
}
