//! What the files of a folder weigh together, for limits.
//!
//! Reads: the folder and the sizes of its files. Thread: the caller's, for as long as the folder has files.

use std::path::Path;

/// Bytes of the files in a folder, or a number above `enough` as soon as there are more. 0 when it cannot be read.
pub fn bytes_in(folder: &Path, enough: u64) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let mut sum = 0_u64;
    for meta in entries.flatten().filter_map(|entry| entry.metadata().ok()) {
        if meta.is_file() {
            sum = sum.saturating_add(meta.len());
        }
        if sum > enough {
            break;
        }
    }
    sum
}
