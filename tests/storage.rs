//! `run` and `drain` on storage that lies: a preloaded library plays its part (it needs a C compiler, as `cargo` does).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::place::{BASE, Place};
use support::process;

/// `rename` that leaves the old name (all racers get the file), that replaces a file part by part, and `open` that
/// makes a file although it is there.
const LIES: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int lies(const char *how) { const char *lie = getenv("LIE"); return lie && !strcmp(lie, how); }

static int copy(const char *from, const char *to, int slowly) {
    static char bytes[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || out < 0) return -1;
    long n = read(in, bytes, sizeof bytes);
    if (write(out, bytes, n / 2) < 0) return -1;
    if (slowly) usleep(20000);
    if (write(out, bytes + n / 2, n - n / 2) < 0) return -1;
    close(in); close(out);
    return 0;
}

int rename(const char *from, const char *to) {
    if (strstr(from, "PROBE")) {
        if (lies("double")) return copy(from, to, 0);
        if (lies("mix") && !access(to, F_OK)) return copy(from, to, 1) || unlink(from) ? -1 : 0;
    }
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}

int open64(const char *path, int flags, ...) {
    va_list list; va_start(list, flags); int mode = va_arg(list, int); va_end(list);
    if (lies("overwrite") && strstr(path, "PROBE")) flags &= ~O_EXCL;
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
}
"#;

/// The library, or `None` where none can be made.
fn library(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("lies.c"), folder.join("lies.so"));
    fs::write(&source, LIES).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    made.is_ok_and(|status| status.success()).then_some(library)
}

fn files(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in fs::read_dir(root)
        .unwrap()
        .flatten()
        .filter(|e| e.path().is_dir())
    {
        for file in fs::read_dir(folder.path()).unwrap().flatten() {
            names.push(file.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

#[test]
fn a_service_does_not_start_where_mail_would_be_doubled_or_damaged() {
    let place = Place::new(BASE);
    let Some(library) = library(place.beside()) else {
        eprintln!("SKIPPED: there is no C compiler to make a lying storage with");
        return;
    };
    place.put("kept.eml", "From: a@b.example\nTo: c@local.test\n\nx\n");
    let notes = place.beside().join("lying");
    for (lie, words) in [
        (
            "double",
            "does not decide: of 4 files 4 were given to more than one of 2 racers",
        ),
        ("mix", "a file in Queue that is replaced by rename is not whole"),
        ("overwrite", "making a file in Queue does not exclude others"),
    ] {
        for verb in ["run", "drain"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mailroot"));
            command
                .args([verb.as_ref(), place.root().as_os_str()])
                .env("LD_PRELOAD", &library)
                .env("LIE", lie);
            let mut running = process::start_command(&notes, command);
            let status = running.ends_within(process::DEADLINE);
            let said = running.stderr();
            assert_eq!(
                status.and_then(|status| status.code()),
                Some(78),
                "{lie} {verb}: {said}"
            );
            assert!(said.contains("this storage cannot hold a mailroot"), "{said}");
            assert!(said.contains(words), "{said}");
        }
    }
    assert_eq!(files(&place.root()), ["kept.eml"]);
}

#[test]
fn starts_at_the_same_moment_do_not_disturb_each_other() {
    let place = Place::new(BASE);
    let root = place.root();
    let notes = place.beside().join("many");
    let start = |number: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailroot"));
        command.args(["drain".as_ref(), root.as_os_str()]);
        process::start_command(&notes.join(number.to_string()), command)
    };
    for _ in 0..3 {
        let mut all: Vec<_> = (0..6).map(start).collect();
        for drain in &mut all {
            let status = drain.ends_within(process::DEADLINE);
            assert_eq!(
                status.and_then(|status| status.code()),
                Some(0),
                "{}",
                drain.stderr()
            );
        }
    }
    assert!(
        files(&root).iter().all(|name| !name.contains("PROBE")),
        "{:?}",
        files(&root)
    );
}
