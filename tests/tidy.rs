//! The rules of the house as a test: which module may name which, who may touch the disk, how files look.
//!
//! The tables at the top are the rules; change a rule there, with a reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Which crate modules a module may name. `main` is not here: it names the command line only.
const FLOORS: &[(&str, &[&str])] = &[
    // what everybody may know
    ("clock", &[]),
    ("stop", &[]),
    ("timed", &["stop"]),
    // floor 0: words
    ("mail", &[]),
    ("config", &["mail"]),
    ("log", &["mail", "config", "clock", "mailroot"]),
    ("w3c", &["config", "mailroot"]),
    // floor 1: the disk, and the other outside world that is asked
    ("mailroot", &["mail", "config", "clock", "stop"]),
    ("dns", &["mail", "config", "clock", "stop"]),
    // floor 2: one module per folder, and the way out; they never name each other, except:
    // the content stream is planned from what pickup read
    ("pickup", &["mail", "config", "clock", "mailroot"]),
    ("queue", &["mail", "config", "clock", "mailroot"]),
    ("drop", &["mail", "config", "clock", "mailroot", "pickup", "smtp"]),
    ("badmail", &["mail", "config", "clock", "mailroot", "pickup"]),
    ("route", &["mail", "config", "clock", "dns"]),
    (
        "smtp",
        &["mail", "config", "clock", "stop", "timed", "w3c", "pickup"],
    ),
    ("report", &["mail", "config", "clock"]),
    // floor 3: the only one that knows the order of things
    (
        "engine",
        &[
            "mail", "config", "clock", "stop", "log", "mailroot", "dns", "pickup", "queue", "drop",
            "badmail", "route", "smtp", "report",
        ],
    ),
    // beside the building; a plug-in touches the tree only, and may ask who a client is
    ("practice", &["mail"]),
    (
        "plugins",
        &[
            "mail", "config", "clock", "stop", "timed", "w3c", "mailroot", "dns",
        ],
    ),
    // on top
    (
        "cli",
        &[
            "mail", "config", "clock", "stop", "log", "w3c", "mailroot", "dns", "pickup", "queue", "drop",
            "badmail", "route", "smtp", "report", "engine", "practice", "plugins",
        ],
    ),
];

/// Modules that may change the disk: the one that owns it, and tools beside the service.
const MAY_WRITE: &[&str] = &[
    "mailroot/",
    "log.rs",
    "practice/",
    "cli/demo",
    "cli/init",
    "cli/check",
];

/// What changes the disk, as it stands in code.
const WRITES: &[&str] = &[
    "fs::write(",
    "fs::rename(",
    "fs::remove_",
    "fs::create_dir",
    "fs::hard_link(",
    "fs::copy(",
    "fs::set_permissions(",
    "File::create",
    "OpenOptions",
    "File::options(",
    "sync_all(",
    "sync_data(",
    "set_modified(",
    "set_times(",
    "set_len(",
    "renameat",
    "unlinkat",
    "fs::unlink(",
    "mkdirat",
    "linkat",
    "fsync(",
    "fdatasync(",
    "fallocate",
    "ftruncate",
    "OFlags::CREATE",
];

/// Marks of work that is not done.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX"];

const MAX_LINES: usize = 500;

struct Source {
    /// Below src/, with `/`.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path
                    .strip_prefix(&src)
                    .unwrap()
                    .to_string_lossy()
                    .replace('\\', "/");
                files.push(Source { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

impl Source {
    /// The module of the crate that this file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// A file of tests only: `tests.rs`, `…_test.rs`, or in a folder `tests`.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.ends_with("_test.rs") || self.path.contains("/tests/")
    }

    /// Lines of code with their numbers: no comments, nothing of the tests at the end of the file or in a test file.
    fn code(&self) -> Vec<(usize, &str)> {
        if self.is_test() {
            return Vec::new();
        }
        let end = self
            .text
            .find("#[cfg(test)]\nmod tests {")
            .unwrap_or(self.text.len());
        let lines = self.text[..end].lines().enumerate();
        lines
            .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or("")))
            .filter(|(_, line)| !line.trim().is_empty())
            .collect()
    }

    /// Crate modules that the code names, with the line: `crate::x`, `crate::{x, y}`, and as many `super::` as lead out.
    fn names(&self) -> Vec<(usize, String)> {
        let depth = self.path.split('/').filter(|part| *part != "mod.rs").count();
        let roots = ["crate::".to_owned(), "super::".repeat(depth)];
        let code = self.code();
        let mut found = Vec::new();
        for (i, (number, line)) in code.iter().enumerate() {
            for root in &roots {
                for (at, _) in line.match_indices(root.as_str()) {
                    if line[..at].ends_with("super::") {
                        continue;
                    }
                    let after = &line[at + root.len()..];
                    if let Some(group) = after.strip_prefix('{') {
                        // a group may go on over lines
                        let tail: String = code[i + 1..].iter().map(|(_, line)| *line).collect();
                        found.extend(first_words(&format!("{group}{tail}")).map(|word| (*number, word)));
                    } else {
                        let word = after
                            .chars()
                            .take_while(|c| c.is_alphanumeric() || *c == '_')
                            .collect();
                        found.push((*number, word));
                    }
                }
            }
        }
        found
    }
}

/// `a, b::{c, d}, e}` → a, b, e
fn first_words(group: &str) -> impl Iterator<Item = String> {
    let (mut depth, mut word, mut words, mut head) = (0, String::new(), Vec::new(), true);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                words.push(std::mem::take(&mut word));
                head = true;
            }
            ':' if depth == 0 => head = false,
            c if depth == 0 && head && (c.is_alphanumeric() || c == '_') => word.push(c),
            _ => {}
        }
    }
    words.push(word);
    words.into_iter().filter(|w| !w.is_empty())
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}\n  {}\n", broken.join("\n  "));
}

#[test]
fn floors() {
    let mut broken = Vec::new();
    for source in sources() {
        let module = source.module();
        if matches!(module, "main" | "lib") {
            continue;
        }
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == module) else {
            broken.push(format!(
                "src/{}: module {module} stands on no floor; add it to FLOORS",
                source.path
            ));
            continue;
        };
        for (line, named) in source.names() {
            // macros and items of lib.rs itself begin otherwise than a module on a floor
            let is_module = FLOORS.iter().any(|(name, _)| *name == named);
            if is_module && named != module && !allowed.contains(&named.as_str()) {
                broken.push(format!(
                    "src/{}:{line}: {module} may not name {named}",
                    source.path
                ));
            }
        }
    }
    report(
        "A module names only lower floors (FLOORS in tests/tidy.rs says which).",
        &broken,
    );
}

#[test]
fn only_the_disk_module_changes_the_disk() {
    let mut broken = Vec::new();
    for source in sources() {
        if MAY_WRITE.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (line, code) in source.code() {
            for word in WRITES.iter().filter(|word| code.contains(**word)) {
                broken.push(format!("src/{}:{line}: {word}", source.path));
            }
        }
    }
    report("Only src/mailroot creates, renames, syncs or removes.", &broken);
}

#[test]
fn locks_are_asked_for_one_at_a_time() {
    let may = ["mailroot/locks.rs", "mailroot/probe/single.rs"];
    let words = ["try_lock_", "FileExt::lock_", "flock("];
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !may.contains(&source.path.as_str()))
    {
        for (line, code) in source.code() {
            for word in words.iter().filter(|word| code.contains(**word)) {
                broken.push(format!("src/{}:{line}: {word}", source.path));
            }
        }
    }
    report(
        "Only src/mailroot/locks.rs asks for a lock on a file; it says why.",
        &broken,
    );
}

#[test]
fn files_are_short_and_have_a_head() {
    let mut broken = Vec::new();
    for source in sources().into_iter().filter(|source| !source.is_test()) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            broken.push(format!("src/{}: {lines} lines; split it by idea", source.path));
        }
        if !source.text.starts_with("//!") && !source.text.starts_with("#![doc = include_str!") {
            broken.push(format!("src/{}: does not begin with //!", source.path));
        }
    }
    report(
        "A source file begins with a head and has at most 500 lines.",
        &broken,
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let mut broken = Vec::new();
    for source in sources() {
        for (i, line) in source.text.lines().enumerate() {
            for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("src/{}:{}: {word}", source.path, i + 1));
            }
        }
    }
    report("Nothing is left unfinished.", &broken);
}

#[test]
fn scenarios_are_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("spool-fixtures/scenarios");
    let mut broken = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let scenario = entry.unwrap().path();
        if !scenario.is_dir() {
            continue;
        }
        for part in ["about.md", "mailroot.toml", "host.talk", "steps"] {
            if !scenario.join(part).is_file() {
                broken.push(format!("{} has no {part}", scenario.display()));
            }
        }
    }
    report("A scenario has all its parts.", &broken);
}

#[test]
fn the_rules_see_what_they_look_for() {
    let source = Source {
        path: "smtp/x.rs".into(),
        text: "use crate::mail::Address; // crate::engine\nuse crate::{config::{Auth, Tls},\n  queue};\n\
               fn f() { fs::write(super::super::route::x()) }\n#[cfg(test)]\nmod tests {\n use crate::cli;\n}\n"
            .into(),
    };
    let names: Vec<String> = source.names().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["mail", "config", "queue", "route"]);
    assert_eq!(source.module(), "smtp");
    assert_eq!(source.code().len(), 4);
}
