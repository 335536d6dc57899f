//! What lies in the mailroot at the end: every file with its size and one word.

use super::facts::{list, name};
use crate::cli::Page;
use crate::config::SETTINGS_FILE;
use std::path::Path;

/// In the order in which mail passes them.
const FOLDERS: [(&str, &str); 6] = [
    ("Pickup", "all taken"),
    ("Queue", "nothing waits"),
    ("Drop", "nothing for us"),
    ("Badmail", "nothing went wrong"),
    ("Status", "no service is running"),
    ("Logs", "no log"),
];

/// The listing.
pub fn show(out: &mut Page<'_>, dir: &Path) {
    out.text("\nWHAT LIES THERE NOW\n");
    out.line(&format!("  {}/", dir.display()));
    for (folder, when_empty) in FOLDERS {
        let files = list(&dir.join(folder)).unwrap_or_default();
        let files: Vec<_> = files.iter().filter(|path| path.is_file()).collect();
        let remark = if files.is_empty() {
            format!("(empty: {when_empty})")
        } else {
            String::new()
        };
        out.line(format!("  |-- {:<9} {remark}", format!("{folder}/")).trim_end());
        for (i, path) in files.iter().enumerate() {
            let branch = if i + 1 < files.len() { "|--" } else { "`--" };
            leaf(out, &format!("  |   {branch} "), path);
        }
    }
    leaf(out, "  `-- ", &dir.join(SETTINGS_FILE));
}

fn leaf(out: &mut Page<'_>, branch: &str, path: &Path) {
    let size = path.metadata().map_or(0, |meta| meta.len());
    out.line(&format!(
        "{:<52} {size:>6} B  {}",
        format!("{branch}{}", name(path)),
        meaning(path)
    ));
}

fn meaning(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("EML") => "message",
        Some("ENV") => "recipients: who has it, who not yet",
        Some("LTR") => "what happened here",
        Some("RTR") => "what the mail servers said",
        Some("HOLD") => "held",
        Some("BAD") => "message",
        Some("BDR") => "reason",
        Some("BDP") => "reason, for programs",
        Some("log") => "log",
        Some("toml") => "settings",
        _ => "",
    }
}
