//! `mailroot demo`: the words are the demo's own.

use super::{Exit, Parts};
use std::path::PathBuf;

pub(super) fn demo(dir: Option<PathBuf>, parts: &dyn Parts) -> Exit {
    parts.demo(dir)
}
