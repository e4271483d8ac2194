//! The table of the module's page, row by row, and what holds for every row.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::record::{Closed, InstallResult};
use crate::model::{Condition, InstallOutcome, ManagedBy};

/// So many seconds from the present of every scene.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
}

/// What is known about one server.
#[derive(Debug, Clone)]
struct Scene {
    manifest: Manifest,
    record: Record,
    status: Status,
    seen: bool,
}

impl Scene {
    fn new(state: PowerState) -> Self {
        let id = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let mut status = Status::new(id);
        status.state = state;
        status.container = (state != PowerState::Offline).then(|| "c1".into());
        Self { manifest: Manifest::new(id, ManagedBy::Panel), record: Record::default(), status, seen: true }
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

    fn suspended(mut self) -> Self {
        self.manifest.spec.suspended = true;
        self
    }

    /// A wish that was made five seconds ago and lapses at that time, if at any.
    fn wanted(mut self, want: Want, how: How, expires: Option<i64>) -> Self {
        let (id, requested_at) = ("old".into(), Some(at(-5)));
        self.manifest.spec.power = Some(PowerIntent { id, want, how, requested_at, expires_at: expires.map(at) });
        self
    }

    fn up(self) -> Self {
        self.wanted(Want::Up, How::Graceful, None)
    }

    fn up_until(self, seconds: i64) -> Self {
        self.wanted(Want::Up, How::Graceful, Some(seconds))
    }

    fn down(self) -> Self {
        self.wanted(Want::Down, How::Graceful, None)
    }

    fn killed(self) -> Self {
        self.wanted(Want::Down, How::Kill, None)
    }

    fn begun(mut self) -> Self {
        self.record.power.begun = Some("old".into());
        self
    }

    fn closed(mut self) -> Self {
        let (reason, message) = (Reason::Stopped, String::new());
        self.record.power.closed = Some(Closed { id: "old".into(), want: None, reason, message, at: at(-1) });
        self
    }

    fn stuck(mut self, reason: Reason) -> Self {
        self.status.set_condition(Condition {
            kind: ConditionKind::Running,
            status: ConditionStatus::False,
            reason,
            message: String::new(),
            since: at(-1),
            observed_generation: 1,
        });
        self
    }

    /// Its container has not been seen yet.
    fn unseen(mut self) -> Self {
        self.status.container = None;
        self.seen = false;
        self
    }

    /// An installation that was asked for so many seconds ago is under way.
    fn installing(mut self, asked: i64, then_start: bool) -> Self {
        let install = json!({"token": "i1", "thenStart": then_start, "requestedAt": at(-asked)});
        self.manifest.spec.install = Some(serde_json::from_value(install).unwrap());
        self
    }

    /// It is over.
    fn installed(mut self, outcome: InstallOutcome) -> Self {
        self.record.install.done = Some(InstallResult {
            token: "i1".into(),
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

    fn facts(&self) -> Facts<'_> {
        Facts { manifest: &self.manifest, record: &self.record, status: &self.status, seen: self.seen, now: at(0) }
    }

    fn asks(&self, action: Action, wait_seconds: i64) -> Result<Admitted, Denied> {
        admit(self.facts(), action, wait(wait_seconds), "new".into())
    }

    /// The answer in words.
    fn answer(&self, action: Action, wait_seconds: i64) -> String {
        match self.asks(action, wait_seconds) {
            Err(denied) => format!("refused: {denied:?}"),
            Ok(Admitted::Already) => "already".into(),
            Ok(Admitted::Adopt { power, container }) => {
                let wished = (power.id.as_str(), power.requested_at, power.want, power.expires_at);
                assert_eq!(wished, ("new", Some(at(0)), Want::Up, None));
                format!("adopts {container}")
            }
            Ok(Admitted::Write(power)) => {
                assert_eq!((power.id.as_str(), power.requested_at), ("new", Some(at(0))));
                let until =
                    power.expires_at.map_or(String::new(), |until| format!(" until {}", until.since(at(0)).as_secs()));
                format!("{:?} {:?}{until}", power.want, power.how).to_lowercase()
            }
        }
    }
}

#[track_caller]
fn table(rows: &[(&str, Scene, Action, i64, &str)]) {
    let mut wrong = String::new();
    for (name, scene, action, wait_seconds, expected) in rows {
        let found = scene.answer(*action, *wait_seconds);
        if found != *expected {
            wrong += &format!("\n{name}: {action:?} waiting {wait_seconds}: expected {expected:?}, found {found:?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn words_and_times_are_read_as_on_the_wire() {
    for (word, action) in
        [("start", Action::Start), ("stop", Action::Stop), ("restart", Action::Restart), ("kill", Action::Kill)]
    {
        assert_eq!(Action::parse(word), Some(action));
    }
    for word in ["", "Start", "terminate", "start "] {
        assert_eq!(Action::parse(word), None, "{word:?}");
    }
    for (seconds, expected) in
        [(0, None), (1, Some(1)), (300, Some(300)), (301, Some(30)), (-1, Some(30)), (i64::MIN, Some(30))]
    {
        assert_eq!(wait(seconds), expected.map(Duration::from_secs), "{seconds}");
    }
}

#[test]
fn start() {
    use Action::Start;
    table(&[
        ("installing", Scene::offline().installing(10, false), Start, 0, "refused: Installing"),
        ("installing, may wait", Scene::offline().installing(10, false), Start, 60, "up graceful until 60"),
        ("installing, a start follows", Scene::offline().installing(10, true), Start, 60, "already"),
        (
            "installing, a start follows, may not wait",
            Scene::offline().installing(10, true),
            Start,
            0,
            "refused: Installing",
        ),
        (
            "installing, the start that was to follow was cancelled",
            Scene::offline().installing(10, true).down(),
            Start,
            60,
            "up graceful until 60",
        ),
        ("installing, and still running", Scene::running().installing(10, false), Start, 60, "up graceful until 60"),
        ("installing, and wanted up after it", Scene::offline().installing(10, false).up(), Start, 60, "already"),
        ("suspended", Scene::offline().suspended(), Start, 0, "refused: Suspended"),
        ("suspended, and wanted up", Scene::offline().suspended().up(), Start, 0, "refused: Suspended"),
        ("suspended, and running", Scene::running().suspended(), Start, 0, "refused: Suspended"),
        ("stopping", Scene::stopping().down(), Start, 0, "up graceful"),
        ("stopping, may wait", Scene::stopping().down(), Start, 60, "up graceful until 60"),
        ("stopping, for nobody", Scene::stopping(), Start, 0, "up graceful"),
        ("restarting", Scene::stopping().up(), Start, 60, "already"),
        ("a start waits for the stop", Scene::stopping().up_until(60), Start, 60, "already"),
        ("a start waits, for less long", Scene::stopping().up_until(10), Start, 60, "up graceful until 60"),
        ("a start waits, for less than ever", Scene::stopping().up_until(10), Start, 0, "up graceful"),
        ("running, as wanted", Scene::running().up(), Start, 0, "already"),
        ("running, begun long ago", Scene::running().up_until(-100).begun(), Start, 0, "already"),
        ("running, adopted", Scene::running(), Start, 0, "adopts c1"),
        ("running, adopted, may wait", Scene::running(), Start, 60, "adopts c1"),
        ("running when it was last seen", Scene::running().unseen(), Start, 0, "up graceful"),
        ("running, its wish over", Scene::running().up().closed(), Start, 0, "adopts c1"),
        ("running, about to stop", Scene::running().down(), Start, 0, "up graceful"),
        ("starting", Scene::new(PowerState::Starting).up(), Start, 0, "already"),
        ("offline", Scene::offline(), Start, 0, "up graceful"),
        ("offline, stopped", Scene::offline().down().closed(), Start, 0, "up graceful"),
        ("offline, about to start", Scene::offline().up(), Start, 0, "already"),
        ("offline, crashed too often", Scene::offline().up().closed(), Start, 0, "up graceful"),
        ("offline, about to lapse", Scene::offline().up_until(0), Start, 60, "up graceful until 60"),
        ("offline, stuck", Scene::offline().up().stuck(Reason::ImagePullBackOff), Start, 0, "up graceful"),
        ("offline, given up in this moment", Scene::offline().up().stuck(Reason::CrashLoop), Start, 0, "up graceful"),
        (
            "offline, ended in this moment",
            Scene::offline().up().stuck(Reason::Exited),
            Start,
            60,
            "up graceful until 60",
        ),
        ("offline, crashed, and about to start", Scene::offline().up().stuck(Reason::Crashed), Start, 0, "already"),
        (
            "stopping, given up in this moment",
            Scene::stopping().up().stuck(Reason::DiskLimitExceeded),
            Start,
            0,
            "up graceful",
        ),
        ("offline, on its way", Scene::offline().up().stuck(Reason::Pulling), Start, 0, "already"),
        (
            "installed, about to start",
            Scene::offline().installing(10, true).installed(InstallOutcome::Succeeded),
            Start,
            0,
            "already",
        ),
        (
            "not installed",
            Scene::offline().installing(10, true).installed(InstallOutcome::Failed),
            Start,
            0,
            "up graceful",
        ),
    ]);
}

#[test]
fn restart() {
    use Action::Restart;
    table(&[
        ("installing", Scene::offline().installing(10, false), Restart, 0, "refused: Installing"),
        ("installing, may wait", Scene::offline().installing(10, false), Restart, 60, "up graceful until 60"),
        ("installing, a start follows", Scene::offline().installing(10, true), Restart, 60, "already"),
        ("suspended", Scene::running().suspended(), Restart, 0, "refused: Suspended"),
        ("stopping", Scene::stopping().down(), Restart, 0, "up graceful"),
        ("restarting", Scene::stopping().up(), Restart, 0, "up graceful"),
        ("running", Scene::running().up(), Restart, 0, "up graceful"),
        ("running, may wait", Scene::running().up(), Restart, 30, "up graceful"),
        ("running, begun long ago, may wait", Scene::running().up_until(-100).begun(), Restart, 30, "up graceful"),
        ("a start waits, for longer", Scene::stopping().up_until(60), Restart, 30, "up graceful until 60"),
        ("a start waits, for less long", Scene::stopping().up_until(10), Restart, 30, "up graceful until 30"),
        ("running, about to stop, may wait", Scene::running().down(), Restart, 30, "up graceful until 30"),
        ("starting", Scene::new(PowerState::Starting).up(), Restart, 0, "up graceful"),
        ("offline", Scene::offline(), Restart, 0, "up graceful"),
    ]);
}

#[test]
fn stop() {
    use Action::Stop;
    table(&[
        ("installing, a start follows", Scene::offline().installing(10, true), Stop, 0, "down graceful"),
        ("installing, a start waits", Scene::offline().installing(10, false).up_until(30), Stop, 0, "down graceful"),
        ("installing, nothing follows", Scene::offline().installing(10, false), Stop, 0, "already"),
        ("installing, cancelled already", Scene::offline().installing(10, true).down(), Stop, 0, "already"),
        (
            "installing, a start follows an earlier stop",
            Scene::offline().installing(1, true).down(),
            Stop,
            0,
            "down graceful",
        ),
        ("suspended, and running", Scene::running().suspended(), Stop, 0, "down graceful"),
        ("suspended, and wanted up", Scene::offline().suspended().up(), Stop, 0, "down graceful"),
        ("stopping", Scene::stopping().down(), Stop, 0, "already"),
        ("restarting", Scene::stopping().up(), Stop, 0, "down graceful"),
        ("being killed", Scene::stopping().killed(), Stop, 0, "already"),
        ("running", Scene::running().up(), Stop, 0, "down graceful"),
        ("running, adopted", Scene::running(), Stop, 0, "down graceful"),
        ("running, started by somebody else since", Scene::running().down().closed(), Stop, 0, "down graceful"),
        ("running, about to stop", Scene::running().down(), Stop, 0, "already"),
        ("starting", Scene::new(PowerState::Starting).up(), Stop, 0, "down graceful"),
        ("offline", Scene::offline(), Stop, 0, "already"),
        ("offline when it was last seen", Scene::offline().unseen(), Stop, 0, "down graceful"),
        ("offline, stopped", Scene::offline().down().closed(), Stop, 0, "already"),
        ("offline, about to start", Scene::offline().up(), Stop, 0, "down graceful"),
        (
            "offline, installed, about to start",
            Scene::offline().installing(10, true).installed(InstallOutcome::Succeeded),
            Stop,
            0,
            "down graceful",
        ),
        ("the time to wait does not matter", Scene::running().up(), Stop, 60, "down graceful"),
    ]);
}

#[test]
fn kill() {
    use Action::Kill;
    table(&[
        ("installing, a start follows", Scene::offline().installing(10, true), Kill, 0, "down kill"),
        ("installing, nothing follows", Scene::offline().installing(10, false), Kill, 0, "already"),
        ("suspended, and running", Scene::running().suspended(), Kill, 0, "down kill"),
        ("stopping", Scene::stopping().down(), Kill, 0, "down kill"),
        ("being killed", Scene::stopping().killed(), Kill, 0, "already"),
        ("restarting", Scene::stopping().up(), Kill, 0, "down kill"),
        ("running", Scene::running().up(), Kill, 0, "down kill"),
        ("running, adopted", Scene::running(), Kill, 0, "down kill"),
        ("offline", Scene::offline(), Kill, 0, "already"),
        ("offline when it was last seen", Scene::offline().unseen(), Kill, 0, "down kill"),
        ("offline, about to be seen stopped", Scene::offline().down(), Kill, 0, "down kill"),
        ("offline, killed", Scene::offline().killed().closed(), Kill, 0, "already"),
        ("offline, about to start", Scene::offline().up(), Kill, 0, "down kill"),
    ]);
}

#[test]
fn installing_again() {
    let asks = |scene: &Scene, reinstall| admit_install(scene.facts(), reinstall);
    for (name, scene, install, reinstall) in [
        ("offline", Scene::offline(), Ok(()), Ok(())),
        ("running", Scene::running().up(), Ok(()), Ok(())),
        ("stopped", Scene::offline().down().closed(), Ok(()), Ok(())),
        ("installing", Scene::offline().installing(10, false), Err(Denied::Installing), Err(Denied::PowerAction)),
        ("installed", Scene::offline().installing(10, false).installed(InstallOutcome::Failed), Ok(()), Ok(())),
        ("stopping", Scene::stopping().down(), Ok(()), Err(Denied::PowerAction)),
        ("about to start", Scene::offline().up(), Ok(()), Err(Denied::PowerAction)),
        ("cannot start", Scene::offline().up().stuck(Reason::ContainerRefused), Ok(()), Ok(())),
        ("suspended, and wanted up", Scene::offline().up().suspended(), Ok(()), Ok(())),
    ] {
        assert_eq!((asks(&scene, false), asks(&scene, true)), (install, reinstall), "{name}");
    }
}

fn scenes() -> impl Strategy<Value = Scene> {
    let states = prop::sample::select(vec![
        PowerState::Offline,
        PowerState::Starting,
        PowerState::Running,
        PowerState::Stopping,
    ]);
    let wants =
        prop::option::of((any::<bool>(), any::<bool>(), prop::option::of(-10i64..400), prop::option::of(-20i64..=0)));
    let installs = prop::option::of((0i64..20, any::<bool>(), prop::option::of(any::<bool>())));
    let stuck = prop::sample::select(vec![
        Reason::Running,
        Reason::ImagePullBackOff,
        Reason::Pulling,
        Reason::ContainerRefused,
        Reason::CrashLoop,
    ]);
    (states, any::<bool>(), wants, installs, (any::<bool>(), any::<bool>()), stuck).prop_map(
        |(state, suspended, wants, installs, (begun, closed), stuck)| {
            let mut scene = Scene::new(state).stuck(stuck);
            scene.manifest.spec.suspended = suspended;
            if let Some((up, kill, expires, asked)) = wants {
                let (want, how) =
                    (if up { Want::Up } else { Want::Down }, if kill { How::Kill } else { How::Graceful });
                scene = scene.wanted(want, how, expires);
                scene.manifest.spec.power.as_mut().unwrap().requested_at = asked.map(at);
            }
            if let Some((asked, then_start, done)) = installs {
                scene = scene.installing(asked, then_start);
                if let Some(succeeded) = done {
                    scene = scene.installed(if succeeded { InstallOutcome::Succeeded } else { InstallOutcome::Failed });
                }
            }
            scene = if begun { scene.begun() } else { scene };
            if closed { scene.closed() } else { scene }
        },
    )
}

fn actions() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Start, Action::Stop, Action::Restart, Action::Kill])
}

/// The wish that will count once an installation that is under way has succeeded, if it is still open.
fn in_the_end(scene: &Scene) -> Option<(String, Want)> {
    let mut record = scene.record.clone();
    if open_install(&scene.manifest, &record).is_some() {
        record.install.done = scene.clone().installed(InstallOutcome::Succeeded).record.install.done;
    }
    crate::reconcile::plan::wish(&scene.manifest, &record)
        .filter(|wish| !record.power_closed(&wish.id, wish.want))
        .map(|wish| (wish.id, wish.want))
}

proptest! {
    #[test]
    fn what_was_written_counts_and_is_not_written_twice(scene in scenes(), action in actions(), seconds in 0i64..310) {
        let Ok(Admitted::Write(power)) = scene.asks(action, seconds) else { return Ok(()) };
        let mut after = scene.clone();
        after.manifest.spec.power = Some(power.clone());
        let counts = in_the_end(&after);
        prop_assert_eq!(counts, Some((power.id.clone(), power.want)));
        let again = admit(after.facts(), action, wait(seconds), "again".into());
        match action {
            // Each of them is one more restart, and a new attempt of a start that is stuck.
            Action::Restart => {}
            Action::Start if failing(&scene.status) || is_given_up(&scene.status) => {}
            _ => prop_assert_eq!(again, Ok(Admitted::Already)),
        }
    }

    #[test]
    fn what_is_already_so_needs_no_wish(scene in scenes(), action in actions(), seconds in 0i64..310) {
        if scene.asks(action, seconds) != Ok(Admitted::Already) {
            return Ok(());
        }
        let counts = in_the_end(&scene).map(|(_, want)| want);
        let runs = matches!(scene.status.state, PowerState::Starting | PowerState::Running);
        match action {
            Action::Start | Action::Restart => prop_assert!(counts == Some(Want::Up) || (counts.is_none() && runs)),
            Action::Stop | Action::Kill => {
                prop_assert!(counts == Some(Want::Down) || (counts.is_none() && scene.status.state == PowerState::Offline));
            }
        }
    }

    #[test]
    fn nobody_is_wanted_up_for_less_long_than_before(scene in scenes(), seconds in 0i64..310) {
        let before = open_wish(&scene.manifest, &scene.record).filter(|wish| wish.want == Want::Up);
        let Some(before) = before.filter(|_| !is_given_up(&scene.status)) else { return Ok(()) };
        for action in [Action::Start, Action::Restart] {
            let Ok(Admitted::Write(power)) = scene.asks(action, seconds) else { continue };
            let lasts = is_begun(&before, &scene.record) || before.expires_at.is_none();
            prop_assert!(power.expires_at.is_none_or(|at| !lasts && before.expires_at.is_some_and(|old| at >= old)));
        }
    }

    #[test]
    fn only_what_brings_a_server_up_is_refused(scene in scenes(), action in actions(), seconds in 0i64..310) {
        let answer = scene.asks(action, seconds);
        let brings_up = matches!(action, Action::Start | Action::Restart);
        if scene.manifest.spec.suspended && brings_up {
            prop_assert_eq!(&answer, &Err(Denied::Suspended));
        }
        if answer.is_err() {
            prop_assert!(brings_up);
        }
        if let Ok(Admitted::Write(power)) = answer {
            prop_assert_eq!(power.want == Want::Up, brings_up);
            prop_assert!(brings_up || power.expires_at.is_none(), "a stop is wanted until it is done");
        }
    }
}
