//! The command line from argument to exit code, with parts that write down what they were asked.

use super::*;
use crate::cli::check::{Lookup, Outside, SmartHost};
use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;

/// Parts for tests: notes calls; DNS and hosts answer as told; files are read by `reader`.
pub struct Fake {
    pub calls: RefCell<Vec<String>>,
    pub started: RefCell<Option<Start>>,
    pub outside: FakeOutside,
    pub reader: fn(&str) -> Read,
}

#[derive(Clone)]
pub struct FakeOutside {
    pub mx: Lookup<Vec<(u16, String)>>,
    pub addresses: Lookup<Vec<IpAddr>>,
    /// Hosts that answer, by name or address.
    pub up: Vec<&'static str>,
}

impl Default for Fake {
    fn default() -> Self {
        let outside = FakeOutside {
            mx: Lookup::Nothing,
            addresses: Lookup::Found(vec![IpAddr::from([192, 0, 2, 1])]),
            up: Vec::new(),
        };
        Self {
            calls: RefCell::default(),
            started: RefCell::default(),
            outside,
            reader: |_| panic!("no reader"),
        }
    }
}

impl Parts for Fake {
    fn run(&self, start: Start) -> Exit {
        self.calls.borrow_mut().push("run".into());
        self.started.replace(Some(start));
        Exit::Ok
    }
    #[cfg(feature = "listener")]
    fn listen(&self, start: Start) -> Exit {
        self.run(start)
    }

    fn drain(&self, start: Start) -> Exit {
        self.calls.borrow_mut().push("drain".into());
        self.started.replace(Some(start));
        Exit::Waiting
    }
    fn demo(&self, dir: Option<PathBuf>, _: &mut Page<'_>, _: &mut Page<'_>) -> Exit {
        self.calls.borrow_mut().push(format!("demo {dir:?}"));
        Exit::Ok
    }
    fn is_ignored(&self, name: &OsStr, config: &Config) -> bool {
        let name = name.to_str().unwrap();
        config
            .pickup
            .ignore
            .iter()
            .any(|pattern| name.ends_with(pattern.trim_start_matches('*')))
    }
    fn read(&self, mut file: File, _: &Config) -> io::Result<super::Read> {
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text)?;
        Ok((self.reader)(&text))
    }
    fn router(&self, config: &Config) -> Box<dyn Fn(&Address) -> String> {
        let local = config.domains.default.clone();
        Box::new(move |to| {
            if to.domain() == local {
                "Drop".into()
            } else {
                format!("mx:{}", to.domain())
            }
        })
    }
    fn outside(&self, _: &Config) -> Box<dyn Outside> {
        Box::new(self.outside.clone())
    }
}

impl Outside for FakeOutside {
    fn mx(&self, _: &str) -> Lookup<Vec<(u16, String)>> {
        self.mx.clone()
    }
    fn addresses(&self, _: &str) -> Lookup<Vec<IpAddr>> {
        self.addresses.clone()
    }
    fn hello(&self, host: &SmartHost) -> Result<String, String> {
        let name = match &host.host {
            crate::config::Host::Name(name) => name.clone(),
            crate::config::Host::Ip(address) => address.to_string(),
        };
        if self.up.contains(&name.as_str()) {
            Ok("greets, offers STARTTLS".into())
        } else {
            Err("connection refused".into())
        }
    }
}

/// What a command line does: exit code, standard output, standard error.
pub fn mailroot(fake: &Fake, variable: Option<&Path>, arguments: &[&str]) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("mailroot")
        .chain(arguments.iter().copied())
        .map(OsString::from);
    let variable = variable.map(|path| path.as_os_str().to_owned());
    let exit = dispatch(arguments, variable, fake, &mut out, &mut err);
    (
        exit,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

#[test]
fn help_teaches_and_mistakes_are_usage() {
    let fake = Fake::default();
    let (exit, out, err) = mailroot(&fake, None, &[]);
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    assert!(err.contains("Usage: mailroot"), "{err}");
    let (exit, out, _) = mailroot(&fake, None, &["--help"]);
    assert_eq!(exit, Exit::Ok);
    let mut at = 0;
    for word in [
        "run",
        "drain",
        "check",
        "init",
        "demo",
        "--config",
        "--log",
        "Examples:",
        "$MAILROOT",
    ] {
        at += out[at..]
            .find(word)
            .unwrap_or_else(|| panic!("{word} is not in the help, or not in its place:\n{out}"));
    }
    assert!(!out.contains("  help "), "{out}");
    for verb in ["run", "drain", "check", "init"] {
        let (exit, out, _) = mailroot(&fake, None, &[verb, "--help"]);
        assert!(exit == Exit::Ok && out.contains("Exit codes"), "{out}");
    }
    for wrong in [
        &["chekc"][..],
        &["run", "a", "b"],
        &["--log", "xml", "run"],
        &["--log", "json"],
        &["run", "--bogus"],
        #[cfg(feature = "listener")]
        &["sessions", "end"],
        #[cfg(feature = "listener")]
        &["sessions", "end", "--all", "a", "b"],
        #[cfg(feature = "listener")]
        &["sessions", "end", "id", "a", "b"],
    ] {
        assert_eq!(mailroot(&fake, None, wrong).0, Exit::Usage, "{wrong:?}");
    }
    assert!(fake.calls.borrow().is_empty());
}

#[test]
fn help_fits_a_terminal_of_eighty_columns_where_it_must() {
    // Lines with leading blanks are laid out by hand: broken, they could no longer be copied.
    let (_, out, _) = mailroot(&Fake::default(), None, &["--help"]);
    let examples = out.split_once("Examples:").unwrap().1;
    assert!(
        examples
            .lines()
            .filter(|line| line.starts_with(' '))
            .all(|line| line.len() < 80),
        "{examples}"
    );
}

#[test]
fn run_makes_the_tree_and_hands_over() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/mailroot");
    let fake = Fake::default();
    let (exit, out, err) = mailroot(&fake, Some(&root), &["run", "--log", "json"]);
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Ok, "", ""));
    assert!(root.join("Queue").is_dir());
    let start = fake.started.take().unwrap();
    assert_eq!(start.place.dir, root);
    assert_eq!(start.loaded.config.log.format, LogFormat::Json);
    assert_eq!(start.place.load().unwrap().config, start.loaded.config);
}

#[test]
fn wrong_settings_stop_everything_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mailroot.toml");
    std::fs::write(&file, "[delivery]\nretyr = [\"1m\"]\n").unwrap();
    let fake = Fake::default();
    for verb in ["run", "drain", "init"] {
        let (exit, _, err) = mailroot(&fake, None, &[verb, dir.path().to_str().unwrap()]);
        assert_eq!(exit, Exit::Config);
        let wanted = format!(
            "{} line 2: \"retyr\" is not a setting of [delivery]; did you mean \"retry\"?\n  2 | retyr = [\"1m\"]\n    | ^^^^^\n",
            file.display()
        );
        assert_eq!(err, wanted);
    }
    assert!(fake.calls.borrow().is_empty());
    assert!(!dir.path().join("Pickup").exists());
    let asked = dir.path().join("none/m.toml");
    let (exit, _, err) = mailroot(&fake, None, &["run", "--config", asked.to_str().unwrap()]);
    let wanted = format!("{}: there is no such settings file\n", asked.display());
    assert_eq!((exit, err), (Exit::Config, wanted));
}

#[test]
fn drain_does_not_make_a_mailroot_out_of_a_typing_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mailrot");
    let fake = Fake::default();
    let (exit, _, err) = mailroot(&fake, None, &["drain", root.to_str().unwrap()]);
    assert_eq!(exit, Exit::NoInput);
    assert!(err.contains("make the mailroot with `mailroot init"), "{err}");
    assert!(!root.exists());
    mailroot(&fake, None, &["init", root.to_str().unwrap()]);
    assert_eq!(
        mailroot(&fake, None, &["drain", root.to_str().unwrap()]).0,
        Exit::Waiting
    );
    assert_eq!(*fake.calls.borrow(), ["drain"]);
}

#[test]
fn init_makes_what_is_missing_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (root, fake) = (dir.path().to_str().unwrap(), Fake::default());
    let (exit, out, _) = mailroot(&fake, None, &["init", root]);
    assert_eq!(exit, Exit::Ok);
    assert_eq!(
        out.lines().filter(|line| line.starts_with("made ")).count(),
        7,
        "{out}"
    );
    let file = dir.path().join("mailroot.toml");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), crate::config::TEMPLATE);
    std::fs::write(&file, "[folders]\nlogs = \"elsewhere/Logs\"\n").unwrap();
    let (exit, out, _) = mailroot(&fake, None, &["init", root]);
    assert_eq!(exit, Exit::Ok);
    assert!(
        out.starts_with("kept ") && out.contains("it was there already"),
        "{out}"
    );
    assert_eq!(
        out.lines().filter(|line| line.starts_with("made ")).count(),
        1,
        "{out}"
    );
    assert!(dir.path().join("elsewhere/Logs").is_dir());
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("[folders]"));
}

#[test]
fn what_cannot_be_made_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Queue"), "in the way").unwrap();
    let (root, fake) = (dir.path().to_str().unwrap(), Fake::default());
    for verb in ["init", "run"] {
        let (exit, _, err) = mailroot(&fake, None, &[verb, root]);
        assert_eq!(exit, Exit::CannotCreate);
        assert!(err.starts_with("mailroot: cannot make the folder "), "{err}");
    }
    assert!(fake.calls.borrow().is_empty());
}

#[test]
fn demo_gets_its_folder() {
    let fake = Fake::default();
    assert_eq!(mailroot(&fake, Some(Path::new("/v")), &["demo"]).0, Exit::Ok);
    mailroot(&fake, None, &["demo", "x"]);
    assert_eq!(*fake.calls.borrow(), ["demo None", "demo Some(\"x\")"]);
}

#[test]
fn a_page_keeps_its_lines() {
    let mut bytes = Vec::new();
    Page::new(&mut bytes).line("a\u{1b}[2J\nb");
    assert_eq!(bytes, b"a\\u{1b}[2J\\nb\n");
}
