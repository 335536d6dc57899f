//! The files that the demo puts into Pickup, and what should become of each.

/// A file.
pub struct Sample {
    /// Its name in Pickup.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
    /// What it is, for the reader.
    pub what: &'static str,
    /// What should come of it.
    pub expected: Expected,
}

/// What should come of a file; compared with what did, never told as if it had.
#[derive(Default)]
pub struct Expected {
    /// The SMTP host accepts it for these.
    pub sent_to: &'static [&'static str],
    /// Drop has it for these.
    pub dropped_for: &'static [&'static str],
    /// The host says "not now" at first.
    pub deferred: bool,
    /// It still waits in Queue.
    pub waits: bool,
    /// The sender gets a report.
    pub returned: bool,
    /// It goes to Badmail.
    pub badmail: bool,
}

macro_rules! fixture {
    ($path:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/spool-fixtures/pickup/",
            $path
        ))
    };
}

/// All of them, simple ones first.
pub fn all() -> Vec<Sample> {
    vec![
        Sample {
            name: "email.txt",
            bytes: fixture!("by-hand/seed-email.txt"),
            what: "the file of every IIS tutorial, a lone \".\" at its end",
            expected: Expected {
                sent_to: &["email@yourdomain.com"],
                ..Expected::default()
            },
        },
        Sample {
            name: "3a5b1c9e-64d2-4f0a-9b77-0d1f5c2e8a41.eml",
            bytes: fixture!("writers/dotnetcore31-basic.eml"),
            what: ".NET SmtpClient with a pickup directory, one Bcc",
            expected: Expected {
                sent_to: &["bob@example.net", "carol@example.net", "dave@example.org"],
                ..Expected::default()
            },
        },
        Sample {
            name: "{6F9619FF-8B86-D011-B42D-00CF4FC964FF}.eml",
            bytes: fixture!("writers/cdosys-style-{6F9619FF-8B86-D011-B42D-00CF4FC964FF}.eml"),
            what: "CDOSYS, from classic ASP",
            expected: Expected {
                sent_to: &["bob@example.net", "dave@example.org"],
                ..Expected::default()
            },
        },
        Sample {
            name: "order-4711.eml",
            bytes: include_bytes!("order-4711.eml"),
            what: "to us, to our second domain, and to the internet",
            expected: Expected {
                sent_to: &["bob@example.net"],
                dropped_for: &["orders@web1.example.com", "sales@intranet.example.com"],
                ..Expected::default()
            },
        },
        Sample {
            name: "newsletter.eml",
            bytes: include_bytes!("newsletter.eml"),
            what: "to a server that says \"not now\" to strangers",
            expected: Expected {
                sent_to: &["carol@greylist.example"],
                deferred: true,
                ..Expected::default()
            },
        },
        Sample {
            name: "invoice.eml",
            bytes: include_bytes!("invoice.eml"),
            what: "to somebody who does not exist",
            expected: Expected {
                returned: true,
                ..Expected::default()
            },
        },
        Sample {
            name: "backup-report.eml",
            bytes: include_bytes!("backup-report.eml"),
            what: "to somebody whose mailbox is full",
            expected: Expected {
                deferred: true,
                waits: true,
                ..Expected::default()
            },
        },
        Sample {
            name: "by-hand.txt",
            bytes: fixture!("malformed/no-empty-line-before-body.txt"),
            what: "the empty line before the text was forgotten",
            expected: Expected {
                badmail: true,
                ..Expected::default()
            },
        },
        Sample {
            name: "9d1e7a30-0c5f-4e8b-8a16-27b4f3d9c650.eml",
            bytes: fixture!("cut-short/dotnetcore31-fail.eml"),
            what: ".NET again: Send() threw half-way",
            expected: Expected {
                badmail: true,
                ..Expected::default()
            },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_lines_fit() {
        let mut names: Vec<_> = all().iter().map(|sample| sample.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
        for sample in all() {
            assert!(
                sample.name.len() <= 42 && sample.what.len() <= 54,
                "{}",
                sample.name
            );
        }
    }
}
