//! The settings file as a whole: defaults, the template, and every kind of mistake with its text.

use super::*;
use std::path::Path;

const HOST: &str = "mail.example.com";

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("/m"), HOST).unwrap_or_else(|error| panic!("{error}"))
}

fn mistakes(text: &str) -> String {
    Config::parse(text, Path::new("/m"), HOST)
        .unwrap_err()
        .to_string()
}

/// The template with its settings in force: `#key = …` lines, and the examples (`#   …`) if wanted.
fn uncommented(with_examples: bool) -> String {
    let line = |line: &str| -> Option<String> {
        let example = line
            .strip_prefix("#   ")
            .filter(|l| l.contains(" = ") || l.starts_with("[["));
        match (example, line.strip_prefix('#')) {
            (Some(example), _) => with_examples.then(|| example.to_owned()),
            (None, Some(setting)) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => {
                Some(setting.to_owned())
            }
            (None, Some(_)) => None,
            (None, None) => Some(line.to_owned()),
        }
    };
    TEMPLATE.lines().filter_map(line).map(|l| l + "\n").collect()
}

#[test]
fn the_template_says_the_defaults() {
    assert_eq!(config(TEMPLATE), config(""));
    let in_force = uncommented(false);
    let mut set = config(&in_force);
    assert!(std::mem::take(&mut set.server.hostname_is_set));
    assert_eq!(set, config(""));
    // And it says all of them: every key that a reader asks for.
    let source = source::Source::new(Path::new("t"), "");
    let place = parse::Place {
        file: Path::new("t"),
        dir: Path::new("/m"),
        beside: Path::new("/m"),
    };
    parse::read(&source, &place, HOST).unwrap();
    let mut missing = Vec::new();
    for (section, key) in source
        .asked
        .borrow()
        .iter()
        .filter(|(section, key)| !section.is_empty() && *key != "auth")
    {
        let rest = in_force
            .split_once(&format!("\n{section}\n"))
            .map_or("", |(_, rest)| rest);
        let part = rest.split_once("\n[").map_or(rest, |(part, _)| part);
        if !part.lines().any(|line| line.starts_with(&format!("{key} = "))) {
            missing.push(format!("{section} {key}"));
        }
    }
    assert!(
        source.asked.borrow().len() > 50 && missing.is_empty(),
        "the template lacks {missing:?}"
    );
}

#[test]
fn the_examples_of_the_template_are_right() {
    let text: String = uncommented(true);
    // Each example of a key stands before the default of the same key; only one of the two can be in force.
    let mut seen = std::collections::HashSet::new();
    let mut section = String::new();
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        }
        let key = line.split(" = ").next().unwrap_or_default();
        if !line.contains(" = ") || seen.insert(format!("{section}{key}")) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    let config = config(&kept);
    assert_eq!(config.remote[0].name, "example.net");
    assert_eq!(config.delivery.smart_host.len(), 2);
    assert_eq!(config.delivery.auth.unwrap().user, "app");
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = config("");
    assert_eq!(config.server.hostname, HOST);
    assert_eq!(config.domains.default, HOST);
    assert_eq!(config.reports.postmaster.as_str(), "postmaster@mail.example.com");
    assert_eq!(config.folders.pickup, Path::new("/m/Pickup"));
    assert_eq!(config.folders.logs, Path::new("/m/Logs"));
    assert_eq!(
        config.messages,
        Messages {
            max_size: 32 << 20,
            max_recipients: 100,
            max_per_connection: 100,
            max_hops: 30
        }
    );
    let minutes = |list: &[u64]| {
        list.iter()
            .map(|m| Duration::from_secs(m * 60))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        config.delivery.schedule.retry,
        minutes(&[1, 1, 1, 15, 30, 60, 240])
    );
    assert_eq!(
        config.delivery.schedule.delay_notice,
        Duration::from_secs(12 * 3600)
    );
    assert_eq!(config.delivery.schedule.expire, Duration::from_secs(2 * 86_400));
    assert_eq!(config.drop.schedule, config.delivery.schedule);
    assert_eq!(
        (config.delivery.port, config.delivery.tls),
        (25, TlsMode::Opportunistic)
    );
    assert_eq!(
        (
            config.delivery.max_connections,
            config.delivery.max_connections_per_domain
        ),
        (200, 20)
    );
    assert_eq!(config.cluster.lease, Duration::from_secs(15));
    assert_eq!(config.pickup.ignore.len(), 7);
}

#[test]
fn a_whole_file_is_understood() {
    let config = config(
        r#"
        [server]
        hostname = "MX.Example.org"
        [domains]
        default = "bücher.example"
        [folders]
        queue = "../q/./Queue"
        logs = "/var/log/mailroot"
        [delivery]
        smart_host = "a.example:587, [2001:db8::1]:26"
        implicit_tls = true
        tls_ca_file = "ca.pem"
        auth = { user = "u", token_command = ["t", "-x"] }
        retry = ["5s"]
        expire = "3s"
        [drop]
        expire = "1h"
        delay_notice = "0"
        [messages]
        max_size = 1_000
        [reports]
        copy_to = "ops"
        [[remote]]
        name = "*.Example.net"
        route = "smart_host"
        [[remote]]
        name = "example.net"
        smart_host = "[192.0.2.1]"
        tls = "verified"
        [remote.auth]
        user = "v"
        password_file = "/etc/p"
        mechanism = "cram-md5"
        "#,
    );
    assert_eq!(config.server.hostname, "mx.example.org");
    assert_eq!(config.domains.default, "xn--bcher-kva.example");
    assert_eq!(config.folders.queue, Path::new("/q/Queue"));
    assert_eq!(config.folders.logs, Path::new("/var/log/mailroot"));
    assert_eq!(
        config.delivery.tls_ca_file.as_deref(),
        Some(Path::new("/m/ca.pem"))
    );
    let auth = config.delivery.auth.unwrap();
    assert_eq!(auth.mechanism, Some(Mechanism::Xoauth2));
    assert_eq!(auth.secret, SecretSource::Command(vec!["t".into(), "-x".into()]));
    assert_eq!(config.messages.max_size, 1000);
    assert_eq!(
        config.reports.copy_to.unwrap().as_str(),
        "ops@xn--bcher-kva.example"
    );
    assert_eq!(
        (config.remote[0].name.as_str(), &config.remote[0].route),
        ("*.example.net", &RemoteRoute::SmartHost(vec![]))
    );
    let RemoteRoute::SmartHost(hosts) = &config.remote[1].route else {
        panic!("{:?}", config.remote[1])
    };
    assert_eq!(hosts[0].to_string(), "[192.0.2.1]");
    assert_eq!(
        config.remote[1].auth.as_ref().unwrap().mechanism,
        Some(Mechanism::CramMd5)
    );
}

/// Files of `spool-fixtures/config/bad`, each with the text it must give.
///
/// A file ends in `# says:` and the expected lines as comments: the fixture and its golden text stay together.
#[test]
fn every_mistake_has_its_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("spool-fixtures/config/bad");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 40, "only {} fixtures", files.len());
    let mut wrong = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (_, golden) = text
            .split_once("# says:\n")
            .unwrap_or_else(|| panic!("{file:?} has no '# says:'"));
        let expected: Vec<&str> = golden
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .unwrap_or_else(|| line.trim_start_matches('#'))
            })
            .collect();
        let says = mistakes(&text);
        let says: Vec<&str> = says.lines().map(str::trim_end).collect();
        if says != expected {
            wrong.push_str(&format!("\n== {}\n{}\n", file.display(), says.join("\n")));
        }
    }
    assert!(
        wrong.is_empty(),
        "these say something else than their files want:{wrong}"
    );
}

#[test]
fn all_mistakes_are_told_at_once_and_in_order() {
    let says = mistakes("[log]\nlevle = 1\n[pickup]\npoll = 3\n[bogus]\nx = 1\n");
    let lines: Vec<_> = says
        .lines()
        .filter(|l| l.starts_with("mailroot.toml line"))
        .collect();
    assert_eq!(lines.len(), 3, "{says}");
    assert!(
        lines[0].contains("line 2") && lines[1].contains("line 4") && lines[2].contains("line 5"),
        "{says}"
    );
    let many: String = (0..500).map(|n| format!("x{n} = 1\n")).collect();
    assert_eq!(
        Config::parse(&many, Path::new("/m"), HOST)
            .unwrap_err()
            .problems
            .len(),
        errors::MAX_PROBLEMS
    );
}

#[test]
fn doubtful_settings_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    for (text, words) in [
        (
            "[delivery]\ndelay_notice = \"3d\"\n",
            "line 2: \"delay_notice\" of [delivery] is 3d, but mail expires after 2d",
        ),
        (
            "[delivery]\nimplicit_tls = true\n",
            "line 2: \"implicit_tls\" of [delivery] has no effect",
        ),
        (
            "[delivery]\nauth = { user = \"a\", password_file = \"p\" }\n",
            "line 2: \"auth\" of [delivery] has no effect",
        ),
        (
            "[domains]\ndefault = \"a.example\"\n[[remote]]\nname = \"A.example\"\n",
            "line 4: [[remote]] \"a.example\" has no effect",
        ),
        (
            "[[remote]]\nname = \"a.example\"\nhold_expire = \"5d\"\n",
            "line 3: \"hold_expire\" of [[remote]] has no effect, because \"hold\" is false",
        ),
        (
            "[log]\nw3c_fields = [\"time\"]\n",
            "line 2: \"w3c_fields\" of [log] has no effect, because \"w3c\" is false",
        ),
        (
            "[[remote]]\nname = \"a.example\"\natrn_users = [\"app\"]\n",
            "line 3: \"atrn_users\" of [[remote]] has no effect, because \"hold\" is false",
        ),
    ] {
        std::fs::write(folder.path().join(SETTINGS_FILE), text).unwrap();
        let loaded = Loaded::read(folder.path(), None).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        assert!(loaded.warnings[0].contains(words), "{:?}", loaded.warnings);
    }
}

#[test]
fn a_missing_file_is_all_defaults_unless_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = Loaded::read(folder.path(), None).unwrap();
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.config.folders.pickup, folder.path().join("Pickup"));
    let asked = folder.path().join("other.toml");
    let error = Loaded::read(folder.path(), Some(&asked)).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: there is no such settings file", asked.display())
    );
}

#[test]
fn paths_begin_at_the_mailroot_and_secrets_beside_the_file() {
    let (mailroot, etc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = etc.path().join("s.toml");
    let text = "[delivery]\nsmart_host = \"a.example\"\nauth = { user = \"a\", password_file = \"p\" }\n";
    std::fs::write(&file, text).unwrap();
    let config = Config::load(mailroot.path(), Some(&file)).unwrap();
    assert_eq!(config.folders.queue, mailroot.path().join("Queue"));
    assert_eq!(
        config.delivery.auth.unwrap().secret,
        SecretSource::File(etc.path().join("p"))
    );
}

#[test]
fn files_that_are_no_settings_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(SETTINGS_FILE);
    for (bytes, words) in [
        (&b"\xff\xfe[\0l\0"[..], "it is UTF-16 text; save it as UTF-8"),
        (
            &b"# \n# gr\xfc\xdfe\n"[..],
            "line 2 holds a byte that is not UTF-8 text",
        ),
        (&[b'#'; (1 << 20) + 1][..], "larger than 1 MiB"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = Loaded::read(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    std::fs::write(&file, b"\xef\xbb\xbf[log]\r\nlevel = \"warn\"\r\n").unwrap();
    assert_eq!(
        Config::load(folder.path(), None).unwrap().log.level,
        LogLevel::Warn
    );
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(
        Loaded::read(folder.path(), None)
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
}

#[test]
fn ten_thousand_remotes_are_read_fast() {
    crate::effort::is_linear("remotes", 10_000, |many| {
        let text: String = (0..many)
            .map(|n| format!("[[remote]]\nname = \"d{n}.example\"\nroute = \"mx\"\n"))
            .collect();
        assert_eq!(config(&text).remote.len(), many);
    });
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\[{0,2}[a-z_.]{0,8}\\]{0,2}|[a-z_]{1,9} ?= ?(\"[^\"]{0,9}\"?|[0-9{}\\[\\],.]{0,6}|ü|)|\\\\|\n|\u{feff}|\r|\t|\u{7}|'){0,40}") {
        if let Err(error) = Config::parse(&text, Path::new("/m"), HOST) {
            proptest::prop_assert!(!error.problems.is_empty());
            let _ = error.to_string();
        }
    }
}
