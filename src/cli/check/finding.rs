//! One line per finding: how bad, about what, what is so, and what to do.

use crate::cli::{Exit, Page};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Ok,
    Note,
    Warn,
    Fail,
}

/// Findings, printed as they are found: looking at a network takes its time.
pub struct Findings<'p, 'o> {
    page: &'p mut Page<'o>,
    warnings: usize,
    failures: usize,
}

impl<'p, 'o> Findings<'p, 'o> {
    /// None yet.
    pub fn new(page: &'p mut Page<'o>) -> Self {
        Self {
            page,
            warnings: 0,
            failures: 0,
        }
    }

    /// It is as it should be.
    pub fn ok(&mut self, topic: &str, what: &str) {
        self.add(Weight::Ok, topic, what, "");
    }

    /// Good to know.
    pub fn note(&mut self, topic: &str, what: &str) {
        self.add(Weight::Note, topic, what, "");
    }

    /// Mail may go wrong.
    pub fn warn(&mut self, topic: &str, what: &str, advice: &str) {
        self.add(Weight::Warn, topic, what, advice);
    }

    /// Mail will go wrong.
    pub fn fail(&mut self, topic: &str, what: &str, advice: &str) {
        self.add(Weight::Fail, topic, what, advice);
    }

    fn add(&mut self, weight: Weight, topic: &str, what: &str, advice: &str) {
        let word = match weight {
            Weight::Ok => "ok",
            Weight::Note => "note",
            Weight::Warn => "WARN",
            Weight::Fail => "FAIL",
        };
        self.warnings += usize::from(weight == Weight::Warn);
        self.failures += usize::from(weight == Weight::Fail);
        let advice = if advice.is_empty() {
            String::new()
        } else {
            format!(" -> {advice}")
        };
        self.page.line(&format!("{word:<5} {topic:<11} {what}{advice}"));
    }

    /// The sum, and the exit code.
    pub fn finish(self) -> Exit {
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let sum = match (self.failures, self.warnings) {
            (0, 0) => "all is well".to_owned(),
            (0, warnings) => format!("{}, nothing fails", count(warnings, "warning")),
            (failures, warnings) => format!("{}, {}", count(failures, "failure"), count(warnings, "warning")),
        };
        self.page.line(&format!("{:<5} {sum}", "=>"));
        if self.failures == 0 {
            Exit::Ok
        } else {
            Exit::Config
        }
    }
}
