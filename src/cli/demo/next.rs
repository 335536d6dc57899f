//! What to try next: commands with the real names of this run, to be copied into a shell.

use super::facts::{Facts, name};
use super::ground::{HOSTNAME, quoted};
use crate::cli::Page;
use std::path::Path;

/// The commands.
pub fn steps(out: &mut Page<'_>, dir: &Path, facts: &Facts<'_>) {
    out.text("\nWHAT TO TRY NEXT\n");
    out.line(&format!("  cd {}", quoted(dir)));
    out.line("  # the service, until Ctrl-C; the SMTP host of this demo is gone, so mail for others waits");
    out.line(&format!("  {} run .", program()));
    out.line("  # in another terminal, in the same folder: write to yourself, then look into Drop");
    out.line(&format!(
        "  printf 'From: me@{HOSTNAME}\\nTo: you@{HOSTNAME}\\n\\nhello\\n' > Pickup/hello.eml"
    ));
    let mut step = |command: String, why: &str| out.line(&format!("  {command:<52} # {why}"));
    if let Some(reason) = facts.fates.iter().find_map(|fate| fate.badmail.as_deref()) {
        let bad = format!("Badmail/{}.BAD", name(&reason.with_extension("")));
        step(
            format!("cat Badmail/{}", name(reason)),
            "all that is known of a failure",
        );
        step(format!("${{EDITOR:-vi}} {bad}"), "correct it");
        step(format!("mv {bad} Pickup/"), "send it again");
    }
    if let Some((message, _)) = facts.fates.iter().find_map(|fate| fate.queued.as_ref()) {
        let id = name(&message.with_extension(""));
        step(format!("cat Queue/{id}.ENV"), "who has not got it, why, next try");
        step(format!("touch -c Queue/{id}.EML"), "try it now");
        step(format!("rm Queue/{id}.EML"), "or give it up");
    }
}

/// How this program was called; a relative name is of no use in another folder.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "mailroot".into());
    let called = Path::new(&called);
    if called.components().count() < 2 {
        return quoted(called);
    }
    quoted(&std::path::absolute(called).unwrap_or_else(|_| called.to_owned()))
}
