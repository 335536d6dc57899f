//! How a step is answered: by the script's rule if one fits, else as usual.

use std::io;

use super::super::script::{Action, Reply, Step};
use super::super::wire::Wire;
use super::{Flow, Said, Session};

impl<'a> Session<'a> {
    pub(super) fn esmtp(&self) -> bool {
        self.greeted.as_ref().is_some_and(|g| g.esmtp)
    }

    /// The parameters of an offered EHLO keyword.
    pub(super) fn offer(&self, keyword: &str) -> Option<&'a str> {
        let script = self.script;
        let more = if self.tls {
            script.offers_under_tls.as_slice()
        } else {
            &[]
        };
        script.offers.iter().chain(more).find_map(|offer| {
            let (name, parameters) = offer.split_once(' ').unwrap_or((offer, ""));
            name.eq_ignore_ascii_case(keyword).then_some(parameters)
        })
    }

    pub(super) fn usual(&self, code: u16, enhanced: &str, text: &str) -> Reply {
        if self.esmtp() && self.offer("ENHANCEDSTATUSCODES").is_some() {
            Reply::new(code, format!("{enhanced} {text}"))
        } else {
            Reply::new(code, text)
        }
    }

    /// Answers where no rule is asked.
    pub(super) fn refuse(&self, wire: &mut Wire, code: u16, enhanced: &str, text: &str) -> io::Result<Flow> {
        self.send(wire, &self.usual(code, enhanced, text))?;
        Ok(Flow::Go)
    }

    /// What a rule says instead of a longer exchange; `None` when the exchange may begin.
    pub(super) fn forestall(&self, wire: &mut Wire, step: Step, argument: &str) -> io::Result<Option<Flow>> {
        let Some(rule) = self.open.talk.rule(step, argument, 0) else {
            return Ok(None);
        };
        let said = self.perform(wire, &rule.actions, None)?;
        Ok((said.code != 0 || said.flow != Flow::Go).then_some(said.flow))
    }

    pub(super) fn answer(
        &self,
        wire: &mut Wire,
        step: Step,
        argument: &str,
        so_far: u64,
        usual: &Reply,
    ) -> io::Result<Said> {
        let rule = self.open.talk.rule(step, argument, so_far);
        self.perform(wire, rule.map_or(&[][..], |rule| &rule.actions), Some(usual))
    }

    /// Does what a rule says, and gives the usual answer if it gave none.
    pub(super) fn perform(
        &self,
        wire: &mut Wire,
        actions: &[Action],
        usual: Option<&Reply>,
    ) -> io::Result<Said> {
        let mut said = Said {
            code: 0,
            flow: Flow::Go,
        };
        let mut silent = false;
        for action in actions {
            match action {
                Action::Reply(reply) => {
                    self.send(wire, reply)?;
                    said.code = reply.code;
                }
                Action::Raw(bytes) => {
                    wire.queue().extend_from_slice(bytes);
                    wire.flush()?;
                    said.code = raw_code(bytes);
                }
                Action::Accept => {
                    if let Some(usual) = usual {
                        self.send(wire, usual)?;
                        said.code = usual.code;
                    }
                }
                Action::Keep => silent = true,
                Action::Stall(time) => {
                    wire.flush()?;
                    wire.pause(*time)?;
                }
                Action::HangUp => {
                    wire.flush()?;
                    said.flow = Flow::HangUp;
                    return Ok(said);
                }
            }
        }
        if said.code == 0
            && !silent
            && let Some(usual) = usual
        {
            self.send(wire, usual)?;
            said.code = usual.code;
        }
        if said.code == 421 {
            said.flow = Flow::Close;
        }
        Ok(said)
    }

    fn send(&self, wire: &mut Wire, reply: &Reply) -> io::Result<()> {
        if !self.script.reply_delay.is_zero() {
            wire.pause(self.script.reply_delay)?;
        }
        reply.write(wire.queue());
        if self.script.reply_delay.is_zero() && self.script.drip.is_zero() {
            return Ok(());
        }
        wire.flush()
    }
}

fn raw_code(bytes: &[u8]) -> u16 {
    let digits = bytes.get(..3).and_then(|b| std::str::from_utf8(b).ok());
    digits.and_then(|d| d.parse().ok()).unwrap_or(500)
}
