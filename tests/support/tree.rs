//! Looking at a mailroot tree as a person does: which files are there, by which names.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::stable;

/// What `ls` shows in the folders of mail, one `Folder/name` per line, names made stable, sorted.
pub fn listing(root: &Path) -> String {
    let mut lines = Vec::new();
    for folder in ["Pickup", "Queue", "Drop", "Badmail"] {
        for file in files(root, folder) {
            let name = file.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
            lines.push(format!("{folder}/{}\n", stable::file_name(&name)));
        }
    }
    lines.sort();
    if lines.is_empty() {
        "(no files)\n".to_owned()
    } else {
        lines.concat()
    }
}

/// The files directly in a folder, sorted by name; none when the folder is missing.
pub fn files(root: &Path, folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| !p.is_dir())
        .collect();
    files.sort();
    files
}

/// How many files of a folder have this extension, whatever their names.
pub fn count(root: &Path, folder: &str, extension: &str) -> usize {
    with_extension(root, folder, extension).len()
}

/// The files of a folder with this extension (ASCII case ignored), sorted.
pub fn with_extension(root: &Path, folder: &str, extension: &str) -> Vec<PathBuf> {
    let fits = |p: &PathBuf| p.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    files(root, folder).into_iter().filter(fits).collect()
}

/// Files of `root` that fit `Folder/pattern`, `*` in the file name only.
pub fn glob(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let (folder, pattern) = pattern.split_once('/').unwrap_or((".", pattern));
    let fits = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts: Vec<&str> = pattern.split('*').collect();
        match parts.as_slice() {
            [exact] => name == *exact,
            [start, middle @ .., end] => {
                let rest = name.strip_prefix(start).and_then(|n| n.strip_suffix(end));
                rest.is_some_and(|mut rest| {
                    middle.iter().all(|part| match rest.find(part) {
                        Some(at) => {
                            rest = &rest[at + part.len()..];
                            true
                        }
                        None => false,
                    })
                })
            }
            [] => false,
        }
    };
    files(root, folder).into_iter().filter(fits).collect()
}
