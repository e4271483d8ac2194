//! The table of the module's page, row by row, and what holds for every row.

use proptest::prelude::*;

use super::*;
use crate::model::record::{Handled, InstallResult};
use crate::model::{InstallOutcome, ManagedBy, Reason, Record, Requester, Requests};
use crate::requests::{NewRequest, accept};

/// So many seconds from the present of every scene.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
}

/// What is known about one server.
#[derive(Debug, Clone)]
struct Fixture {
    manifest: Manifest,
    requests: Requests,
    record: Record,
    state: PowerState,
    seen: bool,
    start_fails: bool,
}

impl Fixture {
    fn new(state: PowerState) -> Self {
        let id = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        Self {
            manifest: Manifest::new(id, ManagedBy::Panel),
            requests: Requests::default(),
            record: Record::default(),
            state,
            seen: true,
            start_fails: false,
        }
    }

    fn offline() -> Self {
        Self::new(PowerState::Offline)
    }

    fn running() -> Self {
        Self::new(PowerState::Running)
    }

    fn stopping() -> Self {
        Self::new(PowerState::Stopping)
    }

    fn by_file(mut self) -> Self {
        self.manifest.metadata.managed_by = ManagedBy::File;
        self
    }

    fn suspended(mut self) -> Self {
        self.manifest.spec.suspended = true;
        self
    }

    /// A request that was accepted after those before it, and expires at that time, if at any.
    fn asked_for(mut self, id: &str, verb: Verb, expires: Option<i64>) -> Self {
        let (id, expires_at) = (id.into(), expires.map(at));
        let new = NewRequest { id, at: at(0), expires_at, timeout: None, by: Requester::Panel, verb };
        accept(&mut self.requests, &self.record, new);
        self
    }

    fn up(self) -> Self {
        self.asked_for("old", Verb::Start, None)
    }

    fn up_until(self, seconds: i64) -> Self {
        self.asked_for("old", Verb::Start, Some(seconds))
    }

    fn down(self) -> Self {
        self.asked_for("old", Verb::Stop, None)
    }

    fn killed(self) -> Self {
        self.asked_for("old", Verb::Kill, None)
    }

    fn begun(mut self) -> Self {
        self.record.power.begun = Some("old".into());
        self
    }

    /// The latest request was handled.
    fn handled(mut self) -> Self {
        let (sequence, verb) = (self.requests.sequence, Verb::Start);
        let (id, reason, message) = ("old".into(), Reason::Stopped, String::new());
        self.record.power.handled = Some(Handled { sequence, id, verb, reason, message, at: at(-1) });
        self
    }

    fn stuck(mut self) -> Self {
        self.start_fails = true;
        self
    }

    /// Its container has not been seen yet.
    fn unseen(mut self) -> Self {
        self.seen = false;
        self
    }

    /// An installation is under way.
    fn installing(self, then_start: bool) -> Self {
        self.asked_for("i1", Verb::Install { reinstall: false, then_start }, None)
    }

    /// It is over.
    fn installed(mut self, outcome: InstallOutcome) -> Self {
        let sequence = self.asked().install().map_or(0, |install| install.sequence);
        self.record.install.done = Some(InstallResult {
            token: "i1".into(),
            sequence,
            outcome,
            reinstall: false,
            exit_code: None,
            reason: Reason::Completed,
            message: String::new(),
            at: at(-2),
            reported: true,
        });
        self
    }

    fn asked(&self) -> Asked<'_> {
        Asked { requests: &self.requests, record: &self.record, now: at(0) }
    }

    fn context(&self) -> AdmissionContext<'_> {
        let Self { manifest, state, seen, start_fails, .. } = self;
        AdmissionContext { manifest, asked: self.asked(), state: *state, seen: *seen, start_fails: *start_fails }
    }

    fn asks(&self, verb: Verb, wait_seconds: i64) -> Result<Admitted, Denied> {
        admit_power(self.context(), verb, wait(wait_seconds), false)
    }

    /// The answer in words.
    fn answer(&self, verb: Verb, wait_seconds: i64) -> String {
        match self.asks(verb, wait_seconds) {
            Err(denied) => format!("refused: {denied:?}"),
            Ok(Admitted::Already) => "already".into(),
            Ok(Admitted::Accepted { expires_at }) => {
                let until = expires_at.map(|until| format!(" until {}", until.since(at(0)).as_secs()));
                format!("accepted{}", until.unwrap_or_default())
            }
        }
    }
}

#[track_caller]
fn table(rows: &[(&str, Fixture, Verb, i64, &str)]) {
    let mut wrong = String::new();
    for (name, fixture, verb, wait_seconds, expected) in rows {
        let found = fixture.answer(*verb, *wait_seconds);
        if found != *expected {
            wrong += &format!("\n{name}: {verb:?} waiting {wait_seconds}: expected {expected:?}, found {found:?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn times_are_read_as_on_the_wire() {
    for (seconds, expected) in
        [(0, None), (1, Some(1)), (300, Some(300)), (301, Some(30)), (-1, Some(30)), (i64::MIN, Some(30))]
    {
        assert_eq!(wait(seconds), expected.map(Duration::from_secs), "{seconds}");
    }
}

#[test]
fn start() {
    use Verb::Start;
    table(&[
        ("installing", Fixture::offline().installing(false), Start, 0, "refused: Installing"),
        ("installing, may wait", Fixture::offline().installing(false), Start, 60, "accepted until 60"),
        ("installing, a start follows", Fixture::offline().installing(true), Start, 60, "already"),
        (
            "installing, a start follows, may not wait",
            Fixture::offline().installing(true),
            Start,
            0,
            "refused: Installing",
        ),
        (
            "installing, the start that was to follow was cancelled",
            Fixture::offline().installing(true).down(),
            Start,
            60,
            "accepted until 60",
        ),
        ("installing, and still running", Fixture::running().installing(false), Start, 60, "accepted until 60"),
        ("installing, and wanted up after it", Fixture::offline().installing(false).up(), Start, 60, "already"),
        ("suspended", Fixture::offline().suspended(), Start, 0, "refused: Suspended"),
        ("suspended, and wanted up", Fixture::offline().suspended().up(), Start, 0, "refused: Suspended"),
        ("suspended, and running", Fixture::running().suspended(), Start, 0, "refused: Suspended"),
        ("stopping", Fixture::stopping().down(), Start, 0, "accepted"),
        ("stopping, may wait", Fixture::stopping().down(), Start, 60, "accepted until 60"),
        ("stopping, without a request", Fixture::stopping(), Start, 0, "accepted"),
        ("restarting", Fixture::stopping().up(), Start, 60, "already"),
        ("a start waits for the stop", Fixture::stopping().up_until(60), Start, 60, "already"),
        ("a start waits, for less long", Fixture::stopping().up_until(10), Start, 60, "accepted until 60"),
        ("a start waits, for less than ever", Fixture::stopping().up_until(10), Start, 0, "accepted"),
        ("running, as wanted", Fixture::running().up(), Start, 0, "already"),
        ("running, begun long ago", Fixture::running().up_until(-100).begun(), Start, 0, "already"),
        ("running, adopted", Fixture::running(), Start, 0, "accepted"),
        ("running, adopted, may wait", Fixture::running(), Start, 60, "accepted"),
        ("running when it was last seen", Fixture::running().unseen(), Start, 0, "accepted"),
        ("running, its request handled", Fixture::running().up().handled(), Start, 0, "accepted"),
        ("running, about to stop", Fixture::running().down(), Start, 0, "accepted"),
        ("starting", Fixture::new(PowerState::Starting).up(), Start, 0, "already"),
        ("offline", Fixture::offline(), Start, 0, "accepted"),
        ("offline, stopped", Fixture::offline().down().handled(), Start, 0, "accepted"),
        ("offline, about to start", Fixture::offline().up(), Start, 0, "already"),
        ("offline, stuck, or given up in this moment", Fixture::offline().up().stuck(), Start, 0, "accepted"),
        ("restarting, stuck before", Fixture::stopping().up().stuck(), Start, 0, "already"),
        ("offline, crashed too often", Fixture::offline().up().handled(), Start, 0, "accepted"),
        ("offline, about to lapse", Fixture::offline().up_until(0), Start, 60, "accepted until 60"),
        (
            "installed, about to start",
            Fixture::offline().installing(true).installed(InstallOutcome::Succeeded),
            Start,
            0,
            "already",
        ),
        ("not installed", Fixture::offline().installing(true).installed(InstallOutcome::Failed), Start, 0, "accepted"),
    ]);
}

#[test]
fn restart() {
    use Verb::Restart;
    table(&[
        ("installing", Fixture::offline().installing(false), Restart, 0, "refused: Installing"),
        ("installing, may wait", Fixture::offline().installing(false), Restart, 60, "accepted until 60"),
        ("installing, a start follows", Fixture::offline().installing(true), Restart, 60, "already"),
        ("suspended", Fixture::running().suspended(), Restart, 0, "refused: Suspended"),
        ("stopping", Fixture::stopping().down(), Restart, 0, "accepted"),
        ("restarting", Fixture::stopping().up(), Restart, 0, "accepted"),
        ("running", Fixture::running().up(), Restart, 0, "accepted"),
        ("running, may wait", Fixture::running().up(), Restart, 30, "accepted until 30"),
        (
            "running, begun long ago, may wait",
            Fixture::running().up_until(-100).begun(),
            Restart,
            30,
            "accepted until 30",
        ),
        ("a start waits, for longer", Fixture::stopping().up_until(60), Restart, 30, "accepted until 30"),
        ("a start waits, for less long", Fixture::stopping().up_until(10), Restart, 30, "accepted until 30"),
        ("running, about to stop, may wait", Fixture::running().down(), Restart, 30, "accepted until 30"),
        ("starting", Fixture::new(PowerState::Starting).up(), Restart, 0, "accepted"),
        ("offline", Fixture::offline(), Restart, 0, "accepted"),
    ]);
}

#[test]
fn stop() {
    use Verb::Stop;
    table(&[
        ("installing, a start follows", Fixture::offline().installing(true), Stop, 0, "accepted"),
        ("installing, a start waits", Fixture::offline().installing(false).up_until(30), Stop, 0, "accepted"),
        ("installing, nothing follows", Fixture::offline().installing(false), Stop, 0, "already"),
        ("installing, cancelled already", Fixture::offline().installing(true).down(), Stop, 0, "already"),
        (
            "installing, a start follows an earlier stop",
            Fixture::offline().down().installing(true),
            Stop,
            0,
            "accepted",
        ),
        ("suspended, and running", Fixture::running().suspended(), Stop, 0, "accepted"),
        ("suspended, and wanted up", Fixture::offline().suspended().up(), Stop, 0, "accepted"),
        ("stopping", Fixture::stopping().down(), Stop, 0, "already"),
        ("restarting", Fixture::stopping().up(), Stop, 0, "accepted"),
        ("being killed", Fixture::stopping().killed(), Stop, 0, "already"),
        ("running", Fixture::running().up(), Stop, 0, "accepted"),
        ("running, adopted", Fixture::running(), Stop, 0, "accepted"),
        ("running, started by another daemon since", Fixture::running().down().handled(), Stop, 0, "accepted"),
        ("running, about to stop", Fixture::running().down(), Stop, 0, "already"),
        ("starting", Fixture::new(PowerState::Starting).up(), Stop, 0, "accepted"),
        ("offline", Fixture::offline(), Stop, 0, "already"),
        ("offline when it was last seen", Fixture::offline().unseen(), Stop, 0, "accepted"),
        ("offline, stopped", Fixture::offline().down().handled(), Stop, 0, "already"),
        ("offline, about to start", Fixture::offline().up(), Stop, 0, "accepted"),
        (
            "offline, installed, about to start",
            Fixture::offline().installing(true).installed(InstallOutcome::Succeeded),
            Stop,
            0,
            "accepted",
        ),
        ("the time to wait does not matter", Fixture::running().up(), Stop, 60, "accepted"),
    ]);
}

#[test]
fn kill() {
    use Verb::Kill;
    table(&[
        ("installing, a start follows", Fixture::offline().installing(true), Kill, 0, "accepted"),
        ("installing, nothing follows", Fixture::offline().installing(false), Kill, 0, "already"),
        ("suspended, and running", Fixture::running().suspended(), Kill, 0, "accepted"),
        ("stopping", Fixture::stopping().down(), Kill, 0, "accepted"),
        ("being killed", Fixture::stopping().killed(), Kill, 0, "already"),
        ("restarting", Fixture::stopping().up(), Kill, 0, "accepted"),
        ("running", Fixture::running().up(), Kill, 0, "accepted"),
        ("running, adopted", Fixture::running(), Kill, 0, "accepted"),
        ("offline", Fixture::offline(), Kill, 0, "already"),
        ("offline when it was last seen", Fixture::offline().unseen(), Kill, 0, "accepted"),
        ("offline, about to be seen stopped", Fixture::offline().down(), Kill, 0, "accepted"),
        ("offline, killed", Fixture::offline().killed().handled(), Kill, 0, "already"),
        ("offline, about to start", Fixture::offline().up(), Kill, 0, "accepted"),
    ]);
}

#[test]
fn installing_again() {
    let asks = |fixture: &Fixture, reinstall| admit_install(fixture.context(), reinstall);
    let failed = || Fixture::offline().installing(false).installed(InstallOutcome::Failed).up();
    for (name, fixture, install, reinstall) in [
        ("offline", Fixture::offline(), Ok(()), Ok(())),
        ("running", Fixture::running().up(), Ok(()), Ok(())),
        ("stopped", Fixture::offline().down().handled(), Ok(()), Ok(())),
        ("installing", Fixture::offline().installing(false), Err(Denied::Installing), Err(Denied::PowerAction)),
        ("installed", Fixture::offline().installing(false).installed(InstallOutcome::Failed), Ok(()), Ok(())),
        ("stopping", Fixture::stopping().down(), Ok(()), Err(Denied::PowerAction)),
        ("about to start", Fixture::offline().up(), Ok(()), Err(Denied::PowerAction)),
        ("cannot start", Fixture::offline().up().stuck(), Ok(()), Ok(())),
        ("suspended, and wanted up", Fixture::offline().up().suspended(), Ok(()), Ok(())),
        ("failed, wanted up, without a panel", failed().by_file(), Ok(()), Ok(())),
        ("failed, about to start", failed(), Ok(()), Err(Denied::PowerAction)),
    ] {
        assert_eq!((asks(&fixture, false), asks(&fixture, true)), (install, reinstall), "{name}");
    }
}

fn fixtures() -> impl Strategy<Value = Fixture> {
    let states = prop::sample::select(vec![
        PowerState::Offline,
        PowerState::Starting,
        PowerState::Running,
        PowerState::Stopping,
    ]);
    let power = (verbs(), prop::option::of(1i64..400));
    let requests = prop::collection::vec(power, 0..4);
    let install = prop::option::of((0usize..4, any::<bool>(), prop::option::of(any::<bool>())));
    (states, any::<bool>(), requests, install, (any::<bool>(), any::<bool>(), any::<bool>())).prop_map(
        |(state, suspended, requests, install, (handled, seen, fails))| {
            let mut fixture = Fixture::new(state);
            (fixture.manifest.spec.suspended, fixture.seen, fixture.start_fails) = (suspended, seen, fails);
            for (number, (verb, expires)) in requests.into_iter().enumerate() {
                if let Some((_, then_start, done)) = install.filter(|(before, ..)| *before == number) {
                    fixture = fixture.installing(then_start);
                    if let Some(succeeded) = done {
                        let outcome = if succeeded { InstallOutcome::Succeeded } else { InstallOutcome::Failed };
                        fixture = fixture.installed(outcome);
                    }
                }
                fixture = fixture.asked_for(&format!("r{number}"), verb, expires.filter(|_| verb.wants_up()));
            }
            if handled { fixture.handled() } else { fixture }
        },
    )
}

fn verbs() -> impl Strategy<Value = Verb> {
    prop::sample::select(vec![Verb::Start, Verb::Stop, Verb::Restart, Verb::Kill])
}

/// The request that will count once an installation that is under way has succeeded.
fn in_the_end(fixture: &Fixture, now: Timestamp) -> Option<(String, bool)> {
    let fixture = match fixture.asked().install() {
        Some(_) => fixture.clone().installed(InstallOutcome::Succeeded),
        None => fixture.clone(),
    };
    let asked = Asked { now, ..fixture.asked() };
    asked.power().map(|power| (power.id, power.verb.wants_up()))
}

proptest! {
    #[test]
    fn what_was_accepted_counts_and_a_stop_is_not_accepted_twice(fixture in fixtures(), verb in verbs(), seconds in 0i64..310) {
        let Ok(Admitted::Accepted { expires_at }) = fixture.asks(verb, seconds) else { return Ok(()) };
        let expires = expires_at.map(|at_| i64::try_from(at_.since(at(0)).as_secs()).unwrap());
        let after = fixture.clone().asked_for("new", verb, expires);
        prop_assert_eq!(in_the_end(&after, at(0)), Some(("new".to_owned(), verb.wants_up())));
        let again = after.asks(verb, seconds);
        match verb {
            // Each of them is one more restart, and a new attempt of a start that does not come up.
            Verb::Restart => {}
            Verb::Start if fixture.state == PowerState::Offline && fixture.start_fails => {}
            _ => prop_assert_eq!(again, Ok(Admitted::Already)),
        }
    }

    #[test]
    fn what_is_already_so_needs_no_request(fixture in fixtures(), verb in verbs(), seconds in 0i64..310) {
        if fixture.asks(verb, seconds) != Ok(Admitted::Already) {
            return Ok(());
        }
        let counts = in_the_end(&fixture, at(0)).map(|(_, up)| up);
        if verb.wants_up() {
            prop_assert_eq!(counts, Some(true));
        } else {
            prop_assert!(counts == Some(false) || (counts.is_none() && fixture.state == PowerState::Offline));
        }
    }

    #[test]
    fn a_request_with_a_deadline_takes_nothing_with_it(fixture in fixtures(), verb in verbs(), seconds in 1i64..300) {
        let Ok(Admitted::Accepted { expires_at: Some(expires_at) }) = fixture.asks(verb, seconds) else { return Ok(()) };
        let later = in_the_end(&fixture, expires_at).filter(|_| fixture.asked().install().is_none());
        let after = fixture.clone().asked_for("new", verb, Some(seconds));
        let counts = in_the_end(&after, expires_at).filter(|_| fixture.asked().install().is_none());
        prop_assert_eq!(counts, later, "what would count at the deadline does");
    }

    #[test]
    fn only_what_brings_a_server_up_is_rejected(fixture in fixtures(), verb in verbs(), seconds in 0i64..310) {
        let answer = fixture.asks(verb, seconds);
        if fixture.manifest.spec.suspended && verb.wants_up() {
            prop_assert_eq!(&answer, &Err(Denied::Suspended));
        }
        if answer.is_err() {
            prop_assert!(verb.wants_up());
        }
        if let Ok(Admitted::Accepted { expires_at }) = answer {
            prop_assert!(verb.wants_up() || expires_at.is_none(), "a stop is kept until it is done");
        }
    }
}

#[test]
fn a_stop_with_a_timeout_changes_the_one_that_is_under_way() {
    let answer = |fixture: &Fixture, verb, has_timeout| admit_power(fixture.context(), verb, None, has_timeout);
    let accepted = Ok(Admitted::Accepted { expires_at: None });
    let stopping = Fixture::stopping().down();
    assert_eq!(answer(&stopping, Verb::Stop, false), Ok(Admitted::Already));
    assert_eq!(answer(&stopping, Verb::Stop, true), accepted);
    assert_eq!(answer(&Fixture::stopping().killed(), Verb::Stop, true), Ok(Admitted::Already), "it waits for nothing");
    assert_eq!(answer(&Fixture::offline(), Verb::Stop, true), Ok(Admitted::Already), "there is nothing to stop");
}
