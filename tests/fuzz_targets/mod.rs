//! What must hold whatever the bytes are: one function per target, called by the fuzzing crate (`tests/fuzz`, run by
//! `scripts/fuzz`) with inputs that libFuzzer makes up, and by a normal test with the seeds.
//!
//! | target | bytes are | what must hold |
//! |---|---|---|
//! | `pickup` | a file in Pickup | memory, short reads, a real file and other block borders read alike; ranges lie inside; Drop and Badmail files read back |
//! | `header` | a header block | fields cover it without a gap; nothing that is shown holds a control character |
//! | `content` | a file in Pickup | DATA and BDAT: CRLF only, no lone period, un-stuffed alike, short lines, 7 bits where asked, no Bcc |
//! | `env` | an ENV file, or pieces of an envelope | reads back what it writes; one line stays one line |
//! | `reply` | what a host says | all feeds agree; bounded; one line stays one line |
//! | `settings` | `mailroot.toml` | every mistake names a line that is there |
//! | `address` | a header value | addresses parse again; no second command, no second parameter |
//! | `names` | a file name or a heartbeat | one spelling for each name of ours |
//! | `listener` | what a client says: command lines, an empty line, DATA | pieces do not matter; what is taken, Pickup takes, for those who were named and nobody else |
//! | `session` | all that a client of the listener says, over a socket | replies are lines; what got its 250 lies in Pickup, whole and for those who were named, and nothing else does |
//! | `plain` | any text | wrapped text stays in its lines |
//!
//! A violated rule panics. The list with lengths and seed folders is `targets.txt`; seeds and inputs of former findings
//! lie in `spool-fixtures/fuzz/TARGET/`. Compiled as a part of whoever includes it, so that `crate::` is the library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[cfg(feature = "listener")]
mod inbound;
mod letters;
#[cfg(feature = "listener")]
mod session;
mod wire;
mod words;

/// `NAME MAX_LEN DICTIONARY SEED_FOLDER…`, one line each, `#` begins a comment.
pub const LIST: &str = include_str!("targets.txt");

/// Runs a target on one input; `None` when there is no such target.
pub fn run(target: &str, data: &[u8]) -> Option<()> {
    match target {
        "pickup" => letters::pickup(data),
        "header" => letters::header(data),
        "content" => wire::content(data),
        "env" => words::env(data),
        "reply" => words::reply(data),
        "settings" => words::settings(data),
        "address" => words::address(data),
        "names" => words::names(data),
        #[cfg(feature = "listener")]
        "listener" => inbound::listener(data),
        #[cfg(feature = "listener")]
        "session" => drop(session::session(data)),
        #[cfg(not(feature = "listener"))]
        "listener" | "session" => {}
        "plain" => words::plain(data),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Files below a folder, or the file itself.
    fn files(path: &Path, found: &mut Vec<Vec<u8>>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                files(&entry.unwrap().path(), found);
            }
        } else {
            found.push(fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }

    /// Else it would hold of nothing.
    #[cfg(feature = "listener")]
    #[test]
    fn sessions_are_served() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("spool-fixtures/fuzz/session");
        for (seed, promised) in [("plain", 1), ("chunks", 1), ("leading", 2), ("cut", 0)] {
            let data = fs::read(seeds.join(seed)).unwrap();
            assert_eq!(session::session(&data), promised, "{seed}");
        }
    }

    #[test]
    fn all_seeds_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lines = LIST.lines().filter(|line| !line.starts_with('#'));
        let mut targets = 0;
        for line in lines {
            let mut words = line.split_whitespace();
            let (name, max_len) = (words.next().unwrap(), words.next().unwrap());
            let max_len: usize = max_len.parse().unwrap();
            words.next().unwrap();
            let mut seeds = Vec::new();
            words.for_each(|folder| files(&root.join(folder), &mut seeds));
            assert!(seeds.len() >= 5, "{name} has only {} seeds", seeds.len());
            for seed in &seeds {
                for data in [&seed[..], &seed[..seed.len() / 2], &[]] {
                    let data = &data[..data.len().min(max_len)];
                    run(name, data).unwrap_or_else(|| panic!("targets.txt names {name}"));
                }
            }
            targets += 1;
        }
        assert_eq!(targets, 11);
        assert_eq!(run("nothing", b""), None);
    }
}
