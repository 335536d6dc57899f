//! What a practice host does: its abilities, its users, and rules that change single answers. Values only.
//!
//! A [`Script`] without rules is a friendly modern host. Not here: the text form ([`super::talk`]) and the counting
//! of how often a rule has fitted (that belongs to a running host).

use std::time::Duration;

/// Everything a host is told before it starts.
#[derive(Debug, Clone)]
pub struct Script {
    /// How the host calls itself in greeting and EHLO.
    pub name: String,
    /// EHLO keywords with their parameters, as they are to stand there.
    pub offers: Vec<String>,
    /// Further keywords once TLS is in use.
    pub offers_under_tls: Vec<String>,
    /// EHLO is not understood.
    pub helo_only: bool,
    /// TLS from the first byte (port 465).
    pub implicit_tls: bool,
    /// MAIL is refused with 530 before STARTTLS.
    pub require_tls: bool,
    /// MAIL is refused with 530 before AUTH.
    pub require_auth: bool,
    /// A word for whoever makes the TLS configuration (`good`, `expired` …); the host itself does not read it.
    pub certificate: Option<String>,
    /// User and password for PLAIN, LOGIN and CRAM-MD5.
    pub users: Vec<(String, String)>,
    /// User and bearer token for XOAUTH2.
    pub tokens: Vec<(String, String)>,
    /// Waited before each reply.
    pub reply_delay: Duration,
    /// Waited between the bytes of each reply.
    pub drip: Duration,
    /// Count messages, keep none: for benchmarks.
    pub discard: bool,
    /// The first that fits decides.
    pub rules: Vec<Rule>,
}

impl Default for Script {
    fn default() -> Self {
        let all = [
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "SIZE 104857600",
        ];
        Self {
            name: "practice.example".to_owned(),
            offers: all.map(str::to_owned).to_vec(),
            offers_under_tls: Vec::new(),
            helo_only: false,
            implicit_tls: false,
            require_tls: false,
            require_auth: false,
            certificate: None,
            users: Vec::new(),
            tokens: Vec::new(),
            reply_delay: Duration::ZERO,
            drip: Duration::ZERO,
            discard: false,
            rules: Vec::new(),
        }
    }
}

impl Script {
    /// A friendly host that offers everything but STARTTLS and AUTH.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers exactly these EHLO keywords.
    #[must_use]
    pub fn offering(mut self, keywords: &[&str]) -> Self {
        self.offers = keywords.iter().map(|&k| k.to_owned()).collect();
        self
    }

    /// Offers one keyword more.
    #[must_use]
    pub fn also_offering(mut self, keyword: &str) -> Self {
        self.offers.push(keyword.to_owned());
        self
    }

    /// Knows this user and password.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Adds a rule after those that are there.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Counts messages and keeps none.
    #[must_use]
    pub fn discarding(mut self) -> Self {
        self.discard = true;
        self
    }
}

/// A point of the dialogue at which a rule can step in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Before the greeting.
    Connect,
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS, before its reply.
    StartTls,
    /// AUTH, before anything is asked.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA.
    Data,
    /// Each BDAT, after its bytes were read and before its reply.
    Bdat,
    /// Inside the content of DATA or BDAT; needs [`When::Over`] bytes.
    Content,
    /// A whole message was received.
    End,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

/// Makes one step of the dialogue different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub step: Step,
    /// For the argument (the address of MAIL and RCPT, the name of EHLO): `*` and `?` as in file names, case ignored.
    pub pattern: Option<String>,
    /// How often.
    pub when: When,
    /// What happens, in order. When none of it is an answer, the usual answer follows.
    pub actions: Vec<Action>,
}

impl Rule {
    /// A rule that always fits and does nothing yet.
    pub fn at(step: Step) -> Self {
        Self {
            step,
            pattern: None,
            when: When::Always,
            actions: Vec::new(),
        }
    }

    /// Only for arguments of this form.
    #[must_use]
    pub fn matching(mut self, pattern: &str) -> Self {
        self.pattern = Some(pattern.to_owned());
        self
    }

    /// Only then.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// One action more.
    #[must_use]
    pub fn then(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// Answers with a code and one line of text.
    #[must_use]
    pub fn reply(self, code: u16, text: &str) -> Self {
        self.then(Action::Reply(Reply {
            code,
            lines: vec![text.to_owned()],
        }))
    }

    pub(super) fn fits(&self, step: Step, argument: &str) -> bool {
        self.step == step && self.pattern.as_deref().is_none_or(|p| glob(p, argument))
    }
}

/// How often a rule steps in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Each time.
    Always,
    /// The first times, counted per argument: `rcpt grey@* first 1` defers each such address once.
    First(u64),
    /// After so many times, counted per argument.
    After(u64),
    /// `Connect`: more connections than this are open. `Mail`: this connection has had so many messages.
    /// `Rcpt`: the transaction has so many recipients. `Content`: so many bytes came.
    Over(u64),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answers. 421 also ends the connection.
    Reply(Reply),
    /// Sends these bytes as the answer, however wrong they are; their first three digits count as its code.
    Raw(Vec<u8>),
    /// The usual answer, when more is to follow it.
    Accept,
    /// Keeps the message and says nothing: with `HangUp`, the client cannot know that it arrived.
    Keep,
    /// Waits.
    Stall(Duration),
    /// Ends the connection.
    HangUp,
}

/// One reply of one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200–599.
    pub code: u16,
    /// At least one; without the code.
    pub lines: Vec<String>,
}

impl Reply {
    pub(super) fn new(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            lines: vec![text.into()],
        }
    }

    /// As it goes over the wire.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (i, line) in self.lines.iter().enumerate() {
            let mark = if i < last { '-' } else { ' ' };
            out.extend_from_slice(format!("{}{mark}{line}\r\n", self.code).as_bytes());
        }
    }
}

/// `*` any run, `?` any one byte, ASCII case ignored. Linear but for one step back per `*`.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&k) if k == b'?' || k.eq_ignore_ascii_case(&c) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star_p, star_t)) = star else {
                    return false;
                };
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_is_that_of_file_names() {
        for (pattern, text, yes) in [
            ("refused@*", "Refused@Example.net", true),
            ("refused@*", "xrefused@example.net", false),
            ("*@*.example", "a@b.example", true),
            ("*@*.example", "a@b.example.net", false),
            ("*a*b*c", "xaxbxbxc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern, text), yes, "{pattern} {text}");
        }
    }

    #[test]
    fn a_reply_of_three_lines_has_two_hyphens() {
        let reply = Reply {
            code: 550,
            lines: ["5.1.1 no", "such", "user"].map(str::to_owned).to_vec(),
        };
        let mut out = Vec::new();
        reply.write(&mut out);
        assert_eq!(out, b"550-5.1.1 no\r\n550-such\r\n550 user\r\n");
    }
}
