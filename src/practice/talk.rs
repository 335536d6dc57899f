//! The text form of a [`Script`]: one thing per line, `#` begins a comment line.
//!
//! ```text
//! name mx1.example.net              offer PIPELINING, SIZE 1000, STARTTLS     offer nothing
//! offer under tls AUTH PLAIN LOGIN  user alice secret                         token alice ya29.x
//! helo only                         implicit tls                              certificate expired
//! require tls                       require auth                              discard
//! reply delay 50ms                  drip 5ms
//!
//! STEP [PATTERN] [first N|after N|over N] -> ACTION [then ACTION]…
//!     STEP    connect ehlo helo starttls auth mail rcpt data bdat content end rset quit
//!     ACTION  550 5.1.1 text | next line      a reply
//!             raw 220-a\r\n550 b\r\n          these bytes
//!             accept, keep, stall 3s, hang up
//! hang up after STEP                short for  STEP -> hang up
//! stall after STEP 3s               short for  STEP -> stall 3s
//! after 3 messages -> 421 bye       short for  mail over 3 -> 421 bye
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::script::{Action, Reply, Rule, Script, Step, When};

/// A line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TalkError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for TalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the talk script: {}", self.line, self.why)
    }
}

impl std::error::Error for TalkError {}

impl FromStr for Script {
    type Err = TalkError;

    fn from_str(text: &str) -> Result<Self, TalkError> {
        let mut script = Script::new();
        let mut offers = None;
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            read_line(&mut script, &mut offers, line).map_err(|why| TalkError { line: i + 1, why })?;
        }
        if let Some(offers) = offers {
            script.offers = offers;
        }
        Ok(script)
    }
}

/// `offers` is `None` until a line says what is offered, so that the first such line replaces the defaults.
fn read_line(script: &mut Script, offers: &mut Option<Vec<String>>, line: &str) -> Result<(), String> {
    if let Some((left, right)) = line.split_once("->") {
        script.rules.push(read_rule(left.trim(), right.trim())?);
        return Ok(());
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["name", name] => script.name = (*name).to_owned(),
        ["offer", "nothing"] => *offers = Some(Vec::new()),
        ["offer", "under", "tls", ..] => {
            let list = line.splitn(4, char::is_whitespace).nth(3).unwrap_or("");
            script.offers_under_tls.extend(keywords(list));
        }
        ["offer", _, ..] => {
            let list = line.split_once(char::is_whitespace).map_or("", |(_, list)| list);
            offers.get_or_insert_default().extend(keywords(list));
        }
        ["user", name, secret] => script.users.push(((*name).to_owned(), (*secret).to_owned())),
        ["token", name, token] => script.tokens.push(((*name).to_owned(), (*token).to_owned())),
        ["helo", "only"] => script.helo_only = true,
        ["implicit", "tls"] => script.implicit_tls = true,
        ["require", "tls"] => script.require_tls = true,
        ["require", "auth"] => script.require_auth = true,
        ["certificate", word] => script.certificate = Some((*word).to_owned()),
        ["discard"] => script.discard = true,
        ["reply", "delay", time] => script.reply_delay = read_duration(time)?,
        ["drip", time] => script.drip = read_duration(time)?,
        ["hang", "up", "after", step] => {
            script.rules.push(Rule::at(read_step(step)?).then(Action::HangUp));
        }
        ["stall", "after", step, time] => {
            script
                .rules
                .push(Rule::at(read_step(step)?).then(Action::Stall(read_duration(time)?)));
        }
        _ => return Err(format!("{line:?} is neither a setting nor a rule with ->")),
    }
    Ok(())
}

fn keywords(list: &str) -> impl Iterator<Item = String> {
    list.split(',')
        .map(|k| k.trim().to_owned())
        .filter(|k| !k.is_empty())
}

fn read_rule(left: &str, right: &str) -> Result<Rule, String> {
    let mut words: Vec<&str> = left.split_whitespace().collect();
    if let ["after", count, "messages"] = words.as_slice() {
        words = vec!["mail", "over", count];
    }
    let (step, mut rest) = match words.split_first() {
        Some((step, rest)) => (read_step(step)?, rest),
        None => return Err("nothing stands before ->".to_owned()),
    };
    let mut rule = Rule::at(step);
    if let [head @ .., word @ ("first" | "after" | "over"), count] = rest {
        let count = count.parse().map_err(|_| format!("{count:?} is not a number"))?;
        rule.when = match *word {
            "first" => When::First(count),
            "after" => When::After(count),
            _ => When::Over(count),
        };
        rest = head;
    }
    match rest {
        [] => {}
        [pattern] => rule.pattern = Some(address_pattern(pattern).to_owned()),
        _ => return Err(format!("{:?} is more than one pattern", rest.join(" "))),
    }
    let measured = matches!(step, Step::Connect | Step::Mail | Step::Rcpt | Step::Content);
    match rule.when {
        When::Over(_) if !measured => return Err("over N is for connect, mail, rcpt and content".to_owned()),
        When::Over(_) => {}
        _ if step == Step::Content => return Err("content needs over N (bytes)".to_owned()),
        _ => {}
    }
    for action in right.split(" then ") {
        rule.actions.push(read_action(action.trim())?);
    }
    Ok(rule)
}

/// `from:<a@*>`, `to:<a@*>`, `<a@*>` and `a@*` mean the same.
fn address_pattern(word: &str) -> &str {
    let bare = word
        .strip_prefix("from:")
        .or(word.strip_prefix("to:"))
        .unwrap_or(word);
    bare.strip_prefix('<')
        .and_then(|b| b.strip_suffix('>'))
        .unwrap_or(bare)
}

fn read_step(word: &str) -> Result<Step, String> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "connect" => Step::Connect,
        "ehlo" => Step::Ehlo,
        "helo" => Step::Helo,
        "starttls" => Step::StartTls,
        "auth" => Step::Auth,
        "mail" => Step::Mail,
        "rcpt" => Step::Rcpt,
        "data" => Step::Data,
        "bdat" => Step::Bdat,
        "content" => Step::Content,
        "end" => Step::End,
        "rset" => Step::Rset,
        "quit" => Step::Quit,
        _ => return Err(format!("{word:?} is not a step of the dialogue")),
    })
}

fn read_action(text: &str) -> Result<Action, String> {
    Ok(match text {
        "accept" => Action::Accept,
        "keep" => Action::Keep,
        "hang up" => Action::HangUp,
        _ => match text.split_once(' ') {
            Some(("stall", time)) => Action::Stall(read_duration(time)?),
            Some(("raw", bytes)) => Action::Raw(bytes.replace("\\r", "\r").replace("\\n", "\n").into_bytes()),
            _ => Action::Reply(read_reply(text)?),
        },
    })
}

fn read_reply(text: &str) -> Result<Reply, String> {
    let (code, words) = text.split_once(' ').unwrap_or((text, ""));
    match code.parse() {
        Ok(number @ 200..=599) if code.len() == 3 => Ok(Reply {
            code: number,
            lines: words.split('|').map(|line| line.trim().to_owned()).collect(),
        }),
        _ => Err(format!(
            "{text:?} is neither a reply (550 text), raw, accept, keep, stall TIME nor hang up"
        )),
    }
}

/// `50ms`, `3s`, `2m`.
fn read_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or("");
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a time like 50ms or 3s"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("{text:?} is not a time like 50ms or 3s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        let script: Script = text.parse().unwrap();
        script.rules.into_iter().next().unwrap()
    }

    #[test]
    fn settings_and_offers() {
        let script: Script = "# a host\nname mx.example\noffer PIPELINING, SIZE 1000\noffer STARTTLS\n\
            offer under tls AUTH PLAIN LOGIN, DSN\nuser a b\ntoken a t\nhelo only\nrequire tls\nrequire auth\n\
            implicit tls\ncertificate expired\nreply delay 50ms\ndrip 2s\ndiscard\n"
            .parse()
            .unwrap();
        assert_eq!(script.name, "mx.example");
        assert_eq!(script.offers, ["PIPELINING", "SIZE 1000", "STARTTLS"]);
        assert_eq!(script.offers_under_tls, ["AUTH PLAIN LOGIN", "DSN"]);
        assert_eq!(script.reply_delay, Duration::from_millis(50));
        assert_eq!(script.drip, Duration::from_secs(2));
        assert!(script.helo_only && script.require_tls && script.require_auth && script.implicit_tls);
        assert!(script.discard && script.certificate.as_deref() == Some("expired"));
        assert!("offer nothing".parse::<Script>().unwrap().offers.is_empty());
        assert!(!"".parse::<Script>().unwrap().offers.is_empty());
    }

    #[test]
    fn rules() {
        assert_eq!(
            rule("rcpt grey@* first 1 -> 451 4.7.1 later"),
            Rule::at(Step::Rcpt)
                .matching("grey@*")
                .when(When::First(1))
                .reply(451, "4.7.1 later")
        );
        assert_eq!(
            rule("mail from:<*@spam.example> -> 550 no"),
            Rule::at(Step::Mail).matching("*@spam.example").reply(550, "no")
        );
        assert_eq!(
            rule("end -> keep then stall 1m then hang up").actions,
            [
                Action::Keep,
                Action::Stall(Duration::from_secs(60)),
                Action::HangUp
            ]
        );
        assert_eq!(
            rule("connect -> raw 220-a\\r\\n").actions,
            [Action::Raw(b"220-a\r\n".to_vec())]
        );
        assert_eq!(
            rule("after 3 messages -> 421 bye"),
            Rule::at(Step::Mail).when(When::Over(3)).reply(421, "bye")
        );
        assert_eq!(
            rule("hang up after data"),
            Rule::at(Step::Data).then(Action::HangUp)
        );
        assert_eq!(rule("data -> 451 a | b").actions.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for wrong in [
            "rcpt -> 55 no",
            "rcpt -> 999 no",
            "fly -> 550 no",
            "-> 550 no",
            "rcpt a b -> 550 no",
            "rcpt first x -> 550 no",
            "data over 3 -> 550 no",
            "content -> hang up",
            "stall after data 3h",
            "hello",
            "offer",
        ] {
            let error = format!("# first\n{wrong}").parse::<Script>().unwrap_err();
            assert_eq!(error.line, 2, "{wrong}");
        }
    }
}
