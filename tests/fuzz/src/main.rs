//! libFuzzer's side of the fuzzing targets: one program for all; `scripts/fuzz` builds and runs it and says which
//! target by `MAILROOT_FUZZ_TARGET`. The targets themselves are `tests/fuzz_targets/`, shared with `cargo test`.
//!
//! A crate and a lock file of its own: no build of mailroot, and no `cargo test`, needs libFuzzer.

#![no_main]

// The targets say `crate::` for the library, of which they are a part in `cargo test`.
use ::mailroot::{config, mail, mailroot, pickup, plugins, queue, smtp, stop};

#[path = "../../fuzz_targets/mod.rs"]
mod fuzz_targets;

use std::sync::LazyLock;

static TARGET: LazyLock<String> = LazyLock::new(|| {
    let target = std::env::var("MAILROOT_FUZZ_TARGET").unwrap_or_default();
    assert!(
        fuzz_targets::run(&target, b"").is_some(),
        "MAILROOT_FUZZ_TARGET is none of:\n{}",
        fuzz_targets::LIST
    );
    target
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::run(&TARGET, data);
});
