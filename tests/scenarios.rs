//! Plays every folder of `spool-fixtures/scenarios/` with the real program; its README tells how one is written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use support::scenario;

/// One test per folder, so that they run side by side and one can be run alone.
macro_rules! scenarios {
    ($($test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                scenario::run(&stringify!($test).replace('_', "-"));
            }
        )*

        #[test]
        fn every_folder_is_played() {
            let mut played = vec![$(stringify!($test).replace('_', "-")),*];
            let entries = std::fs::read_dir(scenario::folder()).unwrap().map(Result::unwrap);
            let mut there: Vec<String> = entries
                .filter(|entry| entry.path().is_dir())
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect();
            played.sort();
            there.sort();
            assert_eq!(played, there, "a folder without its line here, or a line without its folder");
        }
    };
}

scenarios! {
    badmail_resubmission_goes_to_missing_only,
    broken_tls_plain_follows,
    cdosys_bcc,
    completed_in_time,
    delay_notice,
    dns_fails_then_answers,
    dotnet_basic,
    dotnet_stuffed_attachment,
    dotnet_truncated,
    dsn_parameters,
    eight_bit_to_an_old_host,
    expired,
    greylisted_then_delivered,
    hold_and_release,
    hop_count,
    ignored_names,
    iis_tutorial_email_txt,
    local_drop,
    mailkit_bcc_header,
    malformed_header_line,
    mixed_local_remote,
    mx_first_host_refuses_connections,
    mx_second_host,
    no_empty_line_before_body,
    no_recipient,
    no_sender,
    no_such_domain,
    notify_never,
    null_mx,
    null_sender_fails_to_badmail,
    one_bad_recipient,
    refused_recipient_dsn,
    remote_domain_of_its_own,
    report_undeliverable,
    rm_cancels,
    smart_host_auth_starttls,
    too_large,
    too_many_recipients_splits,
    touch_tries_again,
    utf16_powershell,
    verified_refuses_wrong_name,
    wrong_password,
}

#[test]
fn settings_and_scripts_of_every_scenario_are_valid() {
    for entry in std::fs::read_dir(scenario::folder()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            let text = || std::fs::read_to_string(&file).unwrap();
            match file.extension().and_then(|e| e.to_str()) {
                Some("talk") => {
                    let script = text().parse::<mailroot::practice::Script>();
                    assert!(script.is_ok(), "{}: {script:?}", file.display());
                }
                Some("toml") => {
                    let text = text()
                        .replace("{SMTP_PORT}", "2525")
                        .replace("{DNS_ADDR}", "127.0.0.1:53")
                        .replace("{CA_FILE}", "/ca.pem")
                        .replace("{SCENARIO}", &folder.display().to_string());
                    let config = mailroot::config::Config::parse(&text, &folder, "here.example");
                    assert!(config.is_ok(), "{}: {}", file.display(), config.unwrap_err());
                }
                _ => {}
            }
        }
    }
}
