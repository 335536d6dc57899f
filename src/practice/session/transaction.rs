//! MAIL, RCPT, DATA, BDAT: one message from its sender to its end, and whether the client keeps to what was offered.

use std::io;

use super::super::content::{Content, Marks};
use super::super::host::{Accepted, AcceptedRecipient};
use super::super::script::{Action, Reply, Step};
use super::super::wire::Wire;
use super::{Flow, Session, Transaction};

/// Most recipients of one transaction.
const MAX_RECIPIENTS: usize = 10_000;
/// RFC 5321 §4.5.3.1.6.
const MAX_TEXT_LINE: usize = 998;

impl Session<'_> {
    pub(super) fn mail(&mut self, wire: &mut Wire, rest: &str) -> io::Result<Flow> {
        if self.greeted.is_none() || self.transaction.is_some() {
            return self.refuse(wire, 503, "5.5.1", "MAIL is out of place here");
        }
        if self.script.require_tls && !self.tls {
            return self.refuse(wire, 530, "5.7.0", "must issue a STARTTLS command first");
        }
        if self.script.require_auth && self.user.is_none() {
            return self.refuse(wire, 530, "5.7.0", "authentication required");
        }
        let Some((sender, parameters)) = path(rest, "FROM:") else {
            return self.refuse(wire, 501, "5.5.4", "MAIL FROM:<address> [parameters]");
        };
        if let Some(problem) = self.judge_parameters(sender, parameters, parameters) {
            return self.refuse(wire, problem.0, problem.1, &problem.2);
        }
        let usual = self.usual(250, "2.1.0", "sender ok");
        let said = self.answer(wire, Step::Mail, sender, self.messages, &usual)?;
        if said.good() {
            self.transaction = Some(Transaction {
                sender: sender.to_owned(),
                parameters: parameters.to_owned(),
                recipients: Vec::new(),
                chunks: None,
            });
        }
        Ok(said.flow)
    }

    pub(super) fn rcpt(&mut self, wire: &mut Wire, rest: &str) -> io::Result<Flow> {
        let Some(transaction) = &self.transaction else {
            return self.refuse(wire, 503, "5.5.1", "MAIL comes first");
        };
        let Some((address, parameters)) = path(rest, "TO:").filter(|(address, _)| !address.is_empty()) else {
            return self.refuse(wire, 501, "5.5.4", "RCPT TO:<address> [parameters]");
        };
        if let Some(problem) = self.judge_parameters(address, parameters, &transaction.parameters) {
            return self.refuse(wire, problem.0, problem.1, &problem.2);
        }
        let so_far = transaction.recipients.len();
        if so_far >= MAX_RECIPIENTS {
            return self.refuse(wire, 452, "4.5.3", "too many recipients");
        }
        let usual = self.usual(250, "2.1.5", "recipient ok");
        let said = self.answer(wire, Step::Rcpt, address, so_far as u64, &usual)?;
        if said.good()
            && let Some(transaction) = &mut self.transaction
        {
            transaction.recipients.push(AcceptedRecipient {
                address: address.to_owned(),
                parameters: parameters.to_owned(),
            });
        }
        Ok(said.flow)
    }

    pub(super) fn data(&mut self, wire: &mut Wire) -> io::Result<Flow> {
        match &self.transaction {
            None => return self.refuse(wire, 503, "5.5.1", "MAIL comes first"),
            Some(t) if t.chunks.is_some() => {
                return self.refuse(wire, 503, "5.5.1", "DATA after BDAT");
            }
            Some(t) if t.recipients.is_empty() => {
                return self.refuse(wire, 554, "5.5.1", "no valid recipients");
            }
            Some(_) => {}
        }
        let usual = Reply::new(354, "go ahead, end with a lone period");
        let said = self.answer(wire, Step::Data, "", 0, &usual)?;
        if !said.good() || said.flow != Flow::Go {
            if !said.good() {
                self.transaction = None;
            }
            return Ok(said.flow);
        }
        let mut content = Content::new(self.open.room());
        let mut ended = false;
        while !ended {
            let (used, end) = content.data(wire.bytes()?);
            wire.consume(used);
            ended = end;
            if let Some(flow) = self.inside(wire, &content)? {
                return Ok(flow);
            }
        }
        self.end(wire, content, false)
    }

    pub(super) fn bdat(&mut self, wire: &mut Wire, rest: &str) -> io::Result<Flow> {
        let (count, last) = match rest.split_once(' ') {
            Some((count, word)) => (count, word.eq_ignore_ascii_case("LAST")),
            None => (rest, false),
        };
        let Ok(mut left) = count.parse::<u64>() else {
            // where the content ends is unknown now, so nothing after it can be trusted
            self.refuse(wire, 501, "5.5.4", "BDAT count [LAST]")?;
            return Ok(Flow::Close);
        };
        let room = self.open.room();
        let mut content = self
            .transaction
            .as_mut()
            .and_then(|t| t.chunks.take())
            .unwrap_or_else(|| Content::new(room));
        while left > 0 {
            let bytes = wire.bytes()?;
            let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            content.chunk(bytes.get(..used).unwrap_or(bytes));
            wire.consume(used);
            left -= used as u64;
            if let Some(flow) = self.inside(wire, &content)? {
                return Ok(flow);
            }
        }
        if self.offer("CHUNKING").is_none() {
            return self.refuse(wire, 502, "5.5.1", "CHUNKING was not offered");
        }
        match &self.transaction {
            None => return self.refuse(wire, 503, "5.5.1", "MAIL comes first"),
            Some(t) if t.recipients.is_empty() => {
                return self.refuse(wire, 503, "5.5.1", "no valid recipients");
            }
            Some(_) if last => return self.end(wire, content, true),
            Some(_) => {}
        }
        let usual = self.usual(250, "2.0.0", "chunk ok");
        let said = self.answer(wire, Step::Bdat, "", 0, &usual)?;
        if said.good() {
            if let Some(transaction) = &mut self.transaction {
                transaction.chunks = Some(content);
            }
        } else {
            self.transaction = None;
        }
        Ok(said.flow)
    }

    /// Rules inside the content; only such as end or delay it make sense there.
    fn inside(&self, wire: &mut Wire, content: &Content) -> io::Result<Option<Flow>> {
        let Some(rule) = self.open.talk.rule(Step::Content, "", content.size) else {
            return Ok(None);
        };
        let said = self.perform(wire, &rule.actions, None)?;
        Ok((said.flow != Flow::Go).then_some(said.flow))
    }

    fn end(&mut self, wire: &mut Wire, mut content: Content, chunking: bool) -> io::Result<Flow> {
        content.finish();
        let Some(transaction) = self.transaction.take() else {
            return Ok(Flow::Go);
        };
        self.messages += 1;
        self.judge_content(&transaction, &content);
        let limit = self
            .offer("SIZE")
            .and_then(|n| n.parse::<u64>().ok())
            .filter(|n| *n > 0);
        if limit.is_some_and(|n| content.size > n) {
            return self.refuse(wire, 552, "5.3.4", "the message is larger than SIZE said");
        }
        if !self.script.discard && content.size > content.bytes.len() as u64 {
            return self.refuse(
                wire,
                452,
                "4.3.1",
                "the practice host keeps no more; let it discard",
            );
        }
        let usual = self.usual(250, "2.0.0", "taken");
        let rule = self.open.talk.rule(Step::End, "", 0);
        let actions = rule.map_or(&[][..], |rule| &rule.actions);
        if is_taken(actions) {
            let Marks { bare_cr, bare_lf, .. } = content.marks;
            let message = Accepted {
                connection: self.open.number,
                helo: self.greeted.as_ref().map_or_else(String::new, |g| g.name.clone()),
                esmtp: self.esmtp(),
                tls: self.tls,
                auth_user: self.user.clone(),
                sender: transaction.sender,
                sender_parameters: transaction.parameters,
                recipients: transaction.recipients,
                content: content.bytes,
                chunking,
                bare_cr,
                bare_lf,
            };
            self.open.keep(message, content.size);
        }
        Ok(self.perform(wire, actions, Some(&usual))?.flow)
    }

    fn judge_content(&self, transaction: &Transaction, content: &Content) {
        let marks = content.marks;
        let has = |name: &str| parameters(&transaction.parameters).any(|p| p.eq_ignore_ascii_case(name));
        let declared = parameters(&transaction.parameters)
            .find_map(|p| {
                p.split_once('=')
                    .filter(|(name, _)| name.eq_ignore_ascii_case("SIZE"))
            })
            .and_then(|(_, n)| n.parse::<u64>().ok());
        for (wrong, what) in [
            (marks.bare_cr, "the content holds a CR without LF"),
            (marks.bare_lf, "the content holds a LF without CR"),
            (
                marks.single_dot,
                "a line of the content begins with a period that was not doubled",
            ),
            (
                marks.eight_bit && !has("BODY=8BITMIME") && !has("SMTPUTF8"),
                "the content holds bytes over 127, and BODY=8BITMIME was not said",
            ),
            (
                marks.longest_line > MAX_TEXT_LINE,
                "the content holds a line over 998 bytes",
            ),
            (
                declared.is_some_and(|n| n < content.size),
                "the content is larger than its SIZE= said",
            ),
        ] {
            if wrong {
                self.open.note_violation(what);
            }
        }
    }

    /// What is wrong with the parameters of MAIL or RCPT, as a reply. `mail_parameters` tell about SMTPUTF8.
    fn judge_parameters(
        &self,
        address: &str,
        text: &str,
        mail_parameters: &str,
    ) -> Option<(u16, &'static str, String)> {
        for parameter in parameters(text) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = name.to_ascii_uppercase();
            let keyword = match name.as_str() {
                "BODY" => "8BITMIME",
                "RET" | "ENVID" | "NOTIFY" | "ORCPT" => "DSN",
                other => other,
            };
            if !self.esmtp() || self.offer(keyword).is_none() {
                self.open
                    .note_violation(&format!("parameter {name}, and {keyword} was not offered"));
                return Some((555, "5.5.4", format!("{name} is not known here")));
            }
            let limit = self
                .offer("SIZE")
                .and_then(|n| n.parse::<u64>().ok())
                .filter(|n| *n > 0);
            if name == "SIZE"
                && value
                    .parse::<u64>()
                    .is_ok_and(|n| limit.is_some_and(|limit| n > limit))
            {
                return Some((552, "5.3.4", "the message is too large for this host".to_owned()));
            }
        }
        if !address.is_ascii() && !parameters(mail_parameters).any(|p| p.eq_ignore_ascii_case("SMTPUTF8")) {
            return Some((553, "5.6.7", "this address needs SMTPUTF8".to_owned()));
        }
        None
    }
}

/// Whether the host answers for a message when it does this at its end.
fn is_taken(actions: &[Action]) -> bool {
    let decisive = actions.iter().find_map(|action| match action {
        Action::Reply(reply) => Some(reply.code < 300),
        Action::Raw(bytes) => Some(bytes.first() == Some(&b'2')),
        Action::Accept | Action::Keep => Some(true),
        Action::HangUp => Some(false),
        Action::Stall(_) => None,
    });
    decisive.unwrap_or(true)
}

/// `FROM:<address> parameters` → address and parameters. The closing bracket is looked for outside quotes.
fn path<'t>(text: &'t str, keyword: &str) -> Option<(&'t str, &'t str)> {
    let head = text.get(..keyword.len())?;
    let rest = text.get(keyword.len()..)?.strip_prefix('<')?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let after = rest.get(i + 1..)?;
                let parameters = if after.is_empty() {
                    after
                } else {
                    after.strip_prefix(' ')?
                };
                return Some((rest.get(..i)?, parameters));
            }
            _ => {}
        }
    }
    None
}

fn parameters(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_at_their_bracket() {
        assert_eq!(path("FROM:<> RET=HDRS", "FROM:"), Some(("", "RET=HDRS")));
        assert_eq!(path("to:<a@b>", "TO:"), Some(("a@b", "")));
        assert_eq!(
            path("TO:<\"a>\\\"\"@b> N=1", "TO:"),
            Some(("\"a>\\\"\"@b", "N=1"))
        );
        for wrong in ["TO: <a@b>", "TO:a@b", "TO:<a@b", "TO:<a@b>x", "FROM:<a>"] {
            assert_eq!(path(wrong, "TO:"), None, "{wrong}");
        }
    }
}
