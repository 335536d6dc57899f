//! The engine under signals: what `run` and `drain` do once settings and log stand.
//!
//! First it asks whether the storage can hold a mailroot at all. Thread: main. SIGTERM and SIGINT end it (a second one at once), SIGHUP reads the settings again.

use super::check::{Lookup, mx_elsewhere, storage_in_words};
use super::{Exit, Joined, Parts, Start};
use crate::config::Config;
use crate::engine::{Ending, Engine, Mode, trial};
use crate::mailroot::hanging;
use crate::mailroot::probe::{self, Storage};
use crate::plugins::{Listeners, Trouble};
use crate::stop::Stop;
use crate::w3c;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use tracing::{error, info, warn};

/// The service, until a signal ends it.
pub fn run(start: Start) -> Exit {
    with_engine(start, Mode::Run, |engine| {
        let mut storage = hanging::Watch::default();
        while !engine.stop().sleep(std::time::Duration::from_secs(1)) {
            storage.look();
        }
    })
    .map_or_else(|exit| exit, |_| Exit::Ok)
}

/// Everything that is complete and due, once.
pub fn drain(start: Start) -> Exit {
    let ending = with_engine(start, Mode::Drain, Engine::wait_until_drained);
    match ending {
        Err(exit) => exit,
        Ok(ending) if ending.badmailed > 0 => {
            warn!(messages = ending.badmailed, "went to Badmail; each .BDR says why");
            Exit::BadData
        }
        Ok(ending) if ending.waiting => {
            info!("something still waits in Pickup or Queue; the next run goes on with it");
            Exit::Waiting
        }
        Ok(_) => Exit::Ok,
    }
}

/// The listeners without an engine, until a signal ends them.
#[cfg(feature = "listener")]
pub fn listen(start: Start) -> Exit {
    let signals = match signals() {
        Ok(signals) => signals,
        Err(exit) => return exit,
    };
    crate::engine::prepare_process();
    if let Err(exit) = ground_is_firm(Arc::new(probe::Real), &start.loaded.config) {
        return exit;
    }
    let stop = Stop::default();
    let listeners = match Listeners::start(&start.loaded.config, stop.clone()) {
        Ok(listeners) if listeners.is_empty() => {
            error!("no [listener] has enabled = true: there is nothing to open");
            return Exit::Config;
        }
        Ok(listeners) => Arc::new(listeners),
        Err(why) => return told(&why),
    };
    serve_signals(
        signals,
        stop.clone(),
        reloading(start, None, Some(Arc::clone(&listeners))),
    );
    while !stop.sleep(std::time::Duration::from_secs(3600)) {}
    listeners.finish();
    w3c::finish();
    Exit::Ok
}

/// Why there is no listening.
fn told(why: &Trouble) -> Exit {
    error!("{why}");
    match why {
        Trouble::Settings(_) => Exit::Config,
        Trouble::Port(_) => Exit::Unavailable,
    }
}

fn signals() -> Result<Signals, Exit> {
    Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| {
        error!(%error, "cannot take signals");
        Exit::System
    })
}

fn with_engine(start: Start, mode: Mode, until: impl FnOnce(&Engine)) -> Result<Ending, Exit> {
    let signals = signals()?;
    if let Ok(program) = std::env::current_exe() {
        trial::set_program(program);
    }
    let config = start.loaded.config.clone();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        hostname = %config.server.hostname,
        local = %config.domains.default,
        pickup = %config.folders.pickup.display(),
        "{}", if mode == Mode::Run { "running" } else { "draining" }
    );
    ground_is_firm(Arc::new(probe::Real), &config)?;
    let engine = Engine::start(config.clone(), mode).map_err(|why| {
        error!("{why}");
        Exit::CannotCreate
    })?;
    let engine = Arc::new(engine);
    let listeners = match (mode == Mode::Run).then(|| Listeners::start(&config, engine.stop().clone())) {
        Some(Err(why)) => {
            engine.stop().set();
            engine.finish();
            return Err(told(&why));
        }
        Some(Ok(listeners)) => Some(Arc::new(listeners)),
        None => None,
    };
    if mode == Mode::Run {
        warn_of_mail_elsewhere(&start);
    }
    let stop = engine.stop().clone();
    serve_signals(
        signals,
        stop,
        reloading(start, Some(Arc::clone(&engine)), listeners.clone()),
    );
    until(&engine);
    engine.stop().set();
    if let Some(listeners) = listeners {
        listeners.finish();
    }
    let ending = engine.finish();
    w3c::finish();
    Ok(ending)
}

/// Whether the storage does what several nodes rest on (contract §6). Where it does not, mail would be lost or
/// doubled without a word: then it is better not to start.
fn ground_is_firm(storage: Arc<dyn Storage>, config: &Config) -> Result<(), Exit> {
    match probe::what_forbids_a_start(storage, &config.folders) {
        None => Ok(()),
        Some(proof) => {
            let (what, _) = storage_in_words(&proof, config.cluster.lease);
            error!(
                "this storage cannot hold a mailroot: {what}; put the mailroot on other storage, and see what `mailroot \
                 check` says of it"
            );
            Err(Exit::Config)
        }
    }
}

/// The classic mistake that fills Drop: a domain counts as local though the world delivers its mail elsewhere.
/// Asked on a thread of its own: nothing waits for DNS.
fn warn_of_mail_elsewhere(start: &Start) {
    let config = start.loaded.config.clone();
    let ask = move || {
        let outside = Joined.outside(&config);
        if let Lookup::Found(host) = mx_elsewhere(&config.domains.default, &config.server.hostname, &*outside)
        {
            warn!(
                domain = %config.domains.default, mx = %host,
                "mail for domains.default goes into Drop, but DNS says that its mail is delivered elsewhere; \
                 if that is not what you want, set another domains.default"
            );
        }
    };
    if let Err(error) = std::thread::Builder::new().name("mx-check".into()).spawn(ask) {
        warn!(%error, "cannot start a thread");
    }
}

/// Serves signals on a thread of its own, until the process ends.
fn serve_signals(mut signals: Signals, stop: Stop, reload: impl Fn() + Send + 'static) {
    let served = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload();
            } else if stop.is_set() {
                warn!("a second signal: ended at once; what was in hand is taken up at the next start");
                std::process::exit(Exit::Waiting as i32);
            } else {
                info!("ending; what is on the wire is finished");
                stop.set();
            }
        }
    });
    if let Err(error) = served {
        error!(%error, "cannot start a thread: signals end the process at once");
    }
}

/// What SIGHUP does. A broken settings file is reported, the old settings stay in force.
fn reloading(
    start: Start,
    engine: Option<Arc<Engine>>,
    listeners: Option<Arc<Listeners>>,
) -> impl Fn() + Send {
    move || match start.place.load() {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                warn!(target: crate::log::EACH, "{warning}");
            }
            start
                .logging
                .apply(&loaded.config.log, &loaded.config.folders.logs);
            w3c::apply(&loaded.config.log, &loaded.config.folders.logs);
            let config = loaded.config;
            let done = engine
                .as_ref()
                .map_or(Ok(()), |engine| engine.reload(config.clone()));
            match done {
                Ok(()) => {
                    if let Some(listeners) = &listeners {
                        listeners.reload(&config);
                    }
                    info!("settings read again; folders stay as they were at the start");
                }
                Err(why) => error!("{why}; the former settings stay in force"),
            }
        }
        Err(why) => error!("the former settings stay in force: {why}"),
    }
}
