//! The protocol of the contract (§3 and §6) as a model, explored state by state: every order in which processes, disk,
//! operators and trouble can follow each other, within bounds.
//!
//! What is in it: one tree with names that are sure and names that a power cut may forget (any subset of the steps that
//! are not synced; a rename survives whole or not at all), messages A and B and the report on A, two nodes, every arrow
//! with its inner steps, the fence, takeover with lives, crash, freeze and thaw, power cut, the verbs of operators, steps
//! that the disk refuses or does and reports as failed, a listing that misses a file while it is renamed, Pickup on
//! another volume, Badmail. What must hold stands in `model/promise.rs`.
//!
//! Without any one of the rules (`model/state.rs`) the promise breaks: the table below says how, and the test that
//! holds it to it prints how it comes to that (`cargo test --test model without -- --nocapture`).
//!
//! Time is not in it: whatever may happen at some time may happen now. A message that was deferred is due at once, and
//! the ten minutes of an orphan mean that nobody has it in hand or is about to flush its removal. Applications that take
//! files out of Drop are not in it either.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "model/act.rs"]
mod act;
#[path = "model/arrows.rs"]
mod arrows;
#[path = "model/checker.rs"]
mod checker;
#[path = "model/claim.rs"]
mod claim;
#[path = "model/disk.rs"]
mod disk;
#[path = "model/promise.rs"]
mod promise;
#[path = "model/real.rs"]
mod real;
#[path = "model/state.rs"]
mod state;
#[path = "model/world.rs"]
mod world;

use checker::{ENDLESS, Found, STUCK};
use promise::{AGAIN, DAMAGED, DOUBLED, GIVEN_UP, LOST, NO_REASON, REPEATED, REPLACED, ROBBED, TWO_REPORTS};
use state::{Bounds, Protocol, Rule};
use std::time::Instant;

/// Two nodes and message A with a local and a remote recipient, who may be refused; no trouble.
const PEACE: Bounds = Bounds {
    nodes: 2,
    local: [true, false],
    remote: [true, false],
    refusals: [true, false, false],
    null_sender: false,
    crashes: 0,
    freezes: 0,
    cuts: 0,
    deferrals: 0,
    refused_steps: 0,
    operator: 0,
    apart: false,
    unsynced: false,
};
const BADMAIL: Bounds = Bounds {
    null_sender: true,
    ..PEACE
};
const APART: Bounds = Bounds { apart: true, ..PEACE };
const TWO: Bounds = Bounds {
    remote: [true, true],
    ..PEACE
};

fn explore(bounds: Bounds, off: &'static [Rule]) -> Found {
    checker::explore(&Protocol { bounds, off })
}

/// Explores, and says how much there was.
fn holds(worlds: &[(&str, Bounds)]) {
    for (name, bounds) in worlds {
        let began = Instant::now();
        let found = explore(*bounds, &[]);
        let seconds = began.elapsed().as_secs_f32();
        println!(
            "{name}: {} states, {} steps, {} ends, {seconds:.1} s",
            found.states, found.steps, found.ends
        );
        if let Some((what, trace)) = found.violation {
            panic!("{name}: {what}\n{trace}");
        }
        assert!(found.ends > 0, "{name}: nothing was ever finished");
    }
}

#[test]
#[rustfmt::skip]
fn a_crash_at_any_step() {
    holds(&[
        ("no trouble", PEACE),
        ("a crash, a deferral", Bounds { crashes: 1, deferrals: 1, ..PEACE }),
        ("two crashes", Bounds { crashes: 2, ..PEACE }),
        ("a crash, the report refused too", Bounds { crashes: 1, refusals: [true, false, true], ..PEACE }),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_freeze_at_any_step_with_takeover_and_thaw() {
    holds(&[
        ("a freeze", Bounds { freezes: 1, ..PEACE }),
        ("a freeze, a deferral, no refusal", Bounds { freezes: 1, deferrals: 1, refusals: [false; 3], ..PEACE }),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_power_cut_at_any_step() {
    holds(&[
        ("a cut", Bounds { cuts: 1, ..PEACE }),
        ("a cut, and the application did not sync", Bounds { cuts: 1, unsynced: true, ..PEACE }),
        ("a crash, and a cut before anything is synced again", Bounds { cuts: 1, crashes: 1, nodes: 1, ..PEACE }),
    ]);
}

#[test]
#[rustfmt::skip]
fn an_operator_at_any_step() {
    holds(&[
        ("two verbs", Bounds { operator: 2, ..PEACE }),
        ("two verbs, one node", Bounds { operator: 2, deferrals: 1, nodes: 1, ..PEACE }),
        ("a verb and a crash", Bounds { operator: 1, crashes: 1, ..PEACE }),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_disk_that_refuses_steps() {
    holds(&[
        ("two steps refused", Bounds { refused_steps: 2, ..PEACE }),
        ("a step refused, a crash", Bounds { refused_steps: 1, crashes: 1, ..PEACE }),
        ("two steps refused on the way to Badmail", Bounds { refused_steps: 2, crashes: 1, nodes: 1, ..BADMAIL }),
    ]);
}

#[test]
#[rustfmt::skip]
fn pickup_on_another_volume() {
    holds(&[
        ("another volume, two crashes", Bounds { crashes: 2, ..APART }),
        ("another volume, a freeze", Bounds { freezes: 1, refusals: [false; 3], ..APART }),
        ("another volume, a cut", Bounds { cuts: 1, refusals: [false; 3], ..APART }),
        ("another volume, steps refused", Bounds { refused_steps: 2, refusals: [false; 3], ..APART }),
    ]);
}

#[test]
#[rustfmt::skip]
fn badmail_and_back() {
    holds(&[
        ("Badmail, two crashes", Bounds { crashes: 2, ..BADMAIL }),
        ("Badmail, a verb and a crash", Bounds { operator: 1, crashes: 1, ..BADMAIL }),
        ("Badmail, a cut", Bounds { cuts: 1, ..BADMAIL }),
        ("Badmail, a freeze", Bounds { freezes: 1, ..BADMAIL }),
    ]);
}

#[test]
#[rustfmt::skip]
fn two_messages_at_once() {
    holds(&[("two messages, a crash", Bounds { crashes: 1, refusals: [false; 3], ..TWO })]);
}

/// More of everything: `cargo test --release --test model larger -- --ignored --nocapture`, some minutes.
#[test]
#[ignore = "minutes"]
#[rustfmt::skip]
fn larger_worlds() {
    holds(&[
        ("three nodes, two crashes", Bounds { nodes: 3, crashes: 2, ..PEACE }),
        ("three nodes, two freezes", Bounds { nodes: 3, freezes: 2, local: [false; 2], ..PEACE }),
        ("three crashes, a deferral", Bounds { crashes: 3, deferrals: 1, ..PEACE }),
        ("two freezes", Bounds { freezes: 2, refusals: [false; 3], ..PEACE }),
        ("a crash, a freeze, a deferral", Bounds { crashes: 1, freezes: 1, deferrals: 1, ..PEACE }),
        ("a crash and a cut", Bounds { crashes: 1, cuts: 1, deferrals: 1, ..PEACE }),
        ("a freeze and a cut", Bounds { freezes: 1, cuts: 1, refusals: [false; 3], ..PEACE }),
        ("two cuts", Bounds { cuts: 2, nodes: 1, ..PEACE }),
        ("two verbs, a crash", Bounds { operator: 2, crashes: 1, ..PEACE }),
        ("a verb, a freeze", Bounds { operator: 1, freezes: 1, ..PEACE }),
        ("a step refused, a freeze", Bounds { refused_steps: 1, freezes: 1, ..PEACE }),
        ("another volume, a crash and a freeze", Bounds { crashes: 1, freezes: 1, refusals: [false; 3], ..APART }),
        ("another volume, a crash and a cut", Bounds { crashes: 1, cuts: 1, refusals: [false; 3], ..APART }),
        ("another volume, a step refused and a crash", Bounds { crashes: 1, refused_steps: 1, ..APART }),
        ("Badmail, a crash and a freeze", Bounds { crashes: 1, freezes: 1, ..BADMAIL }),
        ("Badmail, two verbs, a crash", Bounds { operator: 2, crashes: 1, ..BADMAIL }),
        ("two messages, a crash, a refusal", Bounds { crashes: 1, ..TWO }),
        ("two messages, a freeze", Bounds { freezes: 1, refusals: [false; 3], ..TWO }),
        ("two messages, a cut", Bounds { cuts: 1, refusals: [false; 3], ..TWO }),
        ("two messages, a verb and a crash", Bounds { operator: 1, crashes: 1, refusals: [false; 3], ..TWO }),
        ("two messages, a step refused", Bounds { refused_steps: 1, crashes: 1, refusals: [false; 3], ..TWO }),
    ]);
    // One that needs more room than the others.
    let without = explore(Bounds { refused_steps: 1, freezes: 1, ..PEACE }, &[Rule::ReadAgain]).violation;
    assert_eq!(without.map(|(what, _)| what), Some(TWO_REPORTS));
}

/// Which promise breaks in which world without a rule.
#[rustfmt::skip]
const WITHOUT: &[(&[Rule], Bounds, &str)] = &[
    (&[Rule::LifeIsRaised], Bounds { freezes: 1, crashes: 1, refusals: [false; 3], ..PEACE }, REPEATED),
    (&[Rule::Fence], Bounds { freezes: 1, ..BADMAIL }, REPEATED),
    (&[Rule::NewName], Bounds { freezes: 1, ..BADMAIL }, ROBBED),
    (&[Rule::StrayIsInNoSession], BADMAIL, REPEATED),
    // either of the two is enough against `touch`
    (&[Rule::NotInHand, Rule::NothingReplaced], Bounds { operator: 1, ..PEACE }, REPLACED),
    (&[Rule::EmptyIsNoMessage], Bounds { operator: 1, crashes: 1, ..PEACE }, REPEATED),
    (&[Rule::ReleaseOverEmpty], Bounds { operator: 1, deferrals: 1, nodes: 1, ..PEACE }, STUCK),
    (&[Rule::RecordBeforeReport], Bounds { crashes: 1, ..PEACE }, GIVEN_UP),
    (&[Rule::RecordBeforeBury], Bounds { crashes: 1, ..BADMAIL }, GIVEN_UP),
    (&[Rule::ReportWaits], Bounds { crashes: 1, ..PEACE }, TWO_REPORTS),
    (&[Rule::LookAgain], Bounds { refused_steps: 1, ..PEACE }, TWO_REPORTS),
    (&[Rule::BuryBeforeRemove], Bounds { crashes: 1, ..BADMAIL }, LOST),
    (&[Rule::ReasonFirst], BADMAIL, NO_REASON),
    (&[Rule::RecordIsSynced], Bounds { cuts: 1, ..PEACE }, AGAIN),
    (&[Rule::BytesBeforeRecord], Bounds { cuts: 1, unsynced: true, ..PEACE }, DAMAGED),
    (&[Rule::PutIsSynced], Bounds { cuts: 1, ..PEACE }, DAMAGED),
    (&[Rule::DropIsSynced], Bounds { cuts: 1, ..PEACE }, LOST),
    (&[Rule::FlushBeforeEnvGoes], Bounds { cuts: 1, ..PEACE }, DOUBLED),
    (&[Rule::OrphansWait], Bounds { crashes: 1, ..BADMAIL }, REPEATED),
    (&[Rule::OrphansAfterSync], Bounds { cuts: 1, crashes: 1, nodes: 1, ..PEACE }, AGAIN),
    (&[Rule::InheritedIsSynced, Rule::ReadAgain], Bounds { cuts: 1, crashes: 1, nodes: 1, ..PEACE }, GIVEN_UP),
    (&[Rule::HalfIsSynced], Bounds { cuts: 1, ..APART }, DOUBLED),
    (&[Rule::CopyIsSynced], Bounds { cuts: 1, ..APART }, DAMAGED),
    (&[Rule::HalfFirst], Bounds { crashes: 1, ..APART }, REPEATED),
    (&[Rule::HalfDecides], Bounds { freezes: 1, ..APART }, LOST),
    (&[Rule::PickupBeforeTakeover], Bounds { cuts: 1, crashes: 1, refusals: [false; 3], ..APART }, REPEATED),
    (&[Rule::OlderCopiesGo], Bounds { crashes: 1, refusals: [false; 3], ..APART }, REPEATED),
    (&[Rule::LostCopyGoes], Bounds { freezes: 1, refusals: [false; 3], ..APART }, REPEATED),
    (&[Rule::OneName], Bounds { freezes: 1, refusals: [false; 3], ..APART }, REPEATED),
    (&[Rule::HalfDecides, Rule::LostCopyGoes], Bounds { freezes: 1, refusals: [false; 3], ..APART }, REPEATED),
];

#[test]
fn without_a_rule_the_promise_breaks() {
    let mut wrong = Vec::new();
    for (off, bounds, expected) in WITHOUT {
        let found = explore(*bounds, off);
        let (what, trace) = found.violation.unwrap_or(("nothing", String::new()));
        println!("\nwithout {off:?}: {what} ({} states)\n{trace}", found.states);
        if what != *expected {
            wrong.push(format!("without {off:?}: {what}; expected: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checker_sees_states_that_lead_nowhere() {
    // Nobody ever releases: the message of a node that waits in vain.
    let found = explore(
        Bounds {
            operator: 1,
            deferrals: 1,
            nodes: 1,
            ..PEACE
        },
        &[Rule::ReleaseOverEmpty],
    );
    assert!(matches!(found.violation, Some((STUCK | ENDLESS, _))));
}

/// Random walks, the same ones each time: the real arrows in orders that only trouble brings about.
#[test]
#[rustfmt::skip]
fn the_real_arrows_show_what_the_model_shows() {
    const WALKS: u64 = 100;
    let worlds = [
        Bounds { crashes: 2, deferrals: 1, ..PEACE },
        Bounds { freezes: 2, deferrals: 1, ..PEACE },
        Bounds { operator: 4, crashes: 1, deferrals: 1, ..PEACE },
        Bounds { operator: 3, crashes: 1, freezes: 1, ..BADMAIL },
        Bounds { crashes: 1, freezes: 1, operator: 2, ..TWO },
        Bounds { crashes: 2, freezes: 1, local: [false; 2], ..PEACE },
    ];
    let mut seen = real::Seen::new();
    for (world, bounds) in worlds.iter().enumerate() {
        let model = Protocol { bounds: *bounds, off: &[] };
        for seed in 0..WALKS {
            let mut random = (seed << 8 | world as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let choose = |among: usize| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                usize::try_from(random >> 32).unwrap() % among
            };
            // in memory where that is possible: nothing is learnt here from real syncs
            let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            real::walk(root.path(), &model, 60, choose, &mut seen);
        }
    }
    println!("{WALKS} walks in each of {} worlds; verbs seen: {seen:?}", worlds.len());
    for verb in ["ClaimPickup", "ClaimWaiting", "ReadEnv", "UnlinkEmpty", "Deposit", "Record", "PutReport", "ReportFound",
        "PutBad", "Release", "Remove", "LetGo", "TakeOver", "Sweep", "SweepOrphan", "Crash", "Thaw", "OperatorResubmits",
        "OperatorReleases"] {
        assert!(seen.contains(verb), "no walk came by {verb}");
    }
}
