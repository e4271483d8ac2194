//! Which request counts, in tables, and what holds for every order of changed manifests and requests.

use proptest::prelude::*;

use super::*;
use crate::model::record::{Handled, InstallResult};
use crate::model::{Install, InstallOutcome, Reason};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
}

/// A server of which only requests and their results are known.
#[derive(Debug, Clone, Default)]
struct Server {
    requests: Requests,
    record: Record,
    spec: Spec,
    now: i64,
}

impl Server {
    fn asked(&self) -> Asked<'_> {
        Asked { requests: &self.requests, record: &self.record, now: at(self.now) }
    }

    fn asks(mut self, id: &str, verb: Verb) -> Self {
        self.accept(id, verb, None);
        self
    }

    fn asks_until(mut self, id: &str, verb: Verb, expires: i64) -> Self {
        self.accept(id, verb, Some(at(expires)));
        self
    }

    fn accept(&mut self, id: &str, verb: Verb, expires_at: Option<Timestamp>) {
        let new = NewRequest { id: id.into(), at: at(self.now), expires_at, timeout: None, by: Requester::Panel, verb };
        accept(&mut self.requests, &self.record, new);
    }

    /// The manifest is changed, and read.
    fn declares(mut self, change: impl FnOnce(&mut Spec)) -> Self {
        let first = self.spec == Spec::default() && self.requests == Requests::default();
        change(&mut self.spec);
        self.read(first);
        self
    }

    fn read(&mut self, first: bool) {
        if let Some(requests) = declare(&self.requests, &self.record, &self.spec, at(self.now), first) {
            self.requests = requests;
        }
    }

    fn later(mut self, seconds: i64) -> Self {
        self.now += seconds;
        self
    }

    /// The request that counts was handled.
    fn handled(mut self) -> Self {
        let power = self.asked().power().or_else(|| self.asked().expired()).expect("one counts");
        let PowerRequest { id, sequence, verb, .. } = power;
        let (reason, message, at) = (Reason::Stopped, String::new(), at(self.now));
        self.record.power.handled = Some(Handled { sequence, id, verb, reason, message, at });
        self
    }

    fn installed(mut self, outcome: InstallOutcome) -> Self {
        let install = self.asked().install().expect("one is pending");
        let (token, sequence, reinstall) = (install.id.to_owned(), install.sequence, install.reinstall);
        self.record.finish_install(InstallResult {
            token,
            sequence,
            outcome,
            reinstall,
            exit_code: Some(0),
            reason: Reason::Completed,
            message: String::new(),
            at: at(self.now),
            reported: true,
        });
        self
    }

    /// What counts, in words.
    fn counts(&self) -> String {
        let asked = self.asked();
        let install = asked.install().map(|install| format!("install {}, ", install.id)).unwrap_or_default();
        let power = asked.power().map_or("nothing".into(), |power| format!("{} {}", power.verb.as_str(), power.id));
        let names = [("manifest-1800000000000-", "m")];
        names.iter().fold(install + &power, |text, (long, short)| text.replace(long, short))
    }
}

const INSTALL: Verb = Verb::Install { reinstall: false, then_start: false };
const INSTALL_AND_START: Verb = Verb::Install { reinstall: false, then_start: true };

fn version(version: &str) -> impl FnOnce(&mut Spec) {
    let install = Install { version: Some(version.into()), ..Install::default() };
    move |spec| spec.install = Some(install)
}

fn power(power: Power) -> impl FnOnce(&mut Spec) {
    move |spec| spec.power = Some(power)
}

fn restarted(value: &str) -> impl FnOnce(&mut Spec) {
    let value = value.to_owned();
    move |spec| spec.restarted_at = Some(value)
}

#[track_caller]
fn table(rows: &[(&str, Server, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(_, server, expected)| server.counts() != *expected)
        .map(|(name, server, expected)| format!("{name}: expected {expected:?}, found {:?}", server.counts()))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_latest_power_request_counts_until_it_is_handled() {
    let new = Server::default;
    table(&[
        ("none", new(), "nothing"),
        ("one", new().asks("a", Verb::Start), "start a"),
        ("a later one", new().asks("a", Verb::Start).asks("b", Verb::Stop), "stop b"),
        ("handled", new().asks("a", Verb::Start).asks("b", Verb::Stop).handled(), "nothing"),
        ("after a handled one", new().asks("a", Verb::Stop).handled().asks("b", Verb::Start), "start b"),
        ("after a stop that is not done", new().asks("a", Verb::Stop).asks("b", Verb::Start), "restart b"),
        ("after a kill", new().asks("a", Verb::Kill).asks("b", Verb::Start), "restart b"),
        (
            "after a restart that may not have begun",
            new().asks_until("a", Verb::Restart, 9).asks("b", Verb::Start),
            "restart b",
        ),
    ]);
}

#[test]
fn a_request_with_a_deadline_keeps_what_counts_without_it() {
    let late = || Server::default().asks("a", Verb::Stop).asks_until("b", Verb::Start, 10);
    table(&[
        ("in time", late().later(9), "restart b"),
        ("expired", late().later(10), "stop a"),
        ("expired, and the stop is done", late().later(10).handled(), "nothing"),
        ("expired, and a later one", late().later(10).asks("c", Verb::Start), "restart c"),
        ("a shorter one above a longer one", late().asks_until("c", Verb::Restart, 5).later(5), "restart b"),
        ("a longer one instead of a shorter one", late().asks_until("c", Verb::Restart, 20).later(10), "restart c"),
        ("all of them expired", late().asks_until("c", Verb::Restart, 5).later(10), "stop a"),
    ]);
    let over = late().later(10).handled();
    assert_eq!(over.asked().expired().map(|request| request.id).as_deref(), Some("b"));
    assert_eq!(over.handled().asked().expired(), None);
    let mut begun = late();
    begun.record.power.begun = Some("b".into());
    assert_eq!(begun.later(99).counts(), "restart b", "what has begun does not expire");
}

#[test]
fn an_installation_holds_power_back_and_its_start_is_as_old_as_itself() {
    use InstallOutcome::{Failed, Succeeded};
    let both = || Server::default().asks("i", INSTALL_AND_START);
    table(&[
        ("pending", both(), "install i, nothing"),
        ("done", both().installed(Succeeded), "start install:i"),
        ("failed", both().installed(Failed), "nothing"),
        (
            "a stop before it",
            Server::default().asks("a", Verb::Stop).asks("i", INSTALL_AND_START).installed(Succeeded),
            "start install:i",
        ),
        ("a stop after it", both().asks("a", Verb::Stop).installed(Succeeded), "stop a"),
        ("a start before it", Server::default().asks("a", Verb::Start).asks("i", INSTALL).installed(Failed), "start a"),
        ("another one", both().asks("j", INSTALL), "install j, nothing"),
        ("another one after its end", both().installed(Succeeded).asks("j", INSTALL), "install j, nothing"),
    ]);
    assert!(both().asked().start_follows());
    assert!(!both().asks("a", Verb::Stop).asked().start_follows());
    assert!(both().asks("x", Verb::Abort).asked().install().unwrap().aborted);
    assert!(!both().asks("x", Verb::Abort).asks("j", INSTALL).asked().install().unwrap().aborted);
}

#[test]
fn what_is_asked_after_a_deletion_is_for_the_server_that_follows() {
    let deleted = || Server::default().asks("a", Verb::Start).asks("d", Verb::Delete);
    assert!(deletion(&deleted().requests).is_some() && !wanted(&deleted().requests));
    assert_eq!(deleted().counts(), "nothing");
    let again = deleted().asks("i", INSTALL).asks("b", Verb::Start);
    assert!(deletion(&again.requests).is_some() && wanted(&again.requests));
    assert_eq!(again.counts(), "install i, start b");
    assert_eq!(deleted().asks("e", Verb::Delete).requests, deleted().requests, "it is deleted once");
    let gone = again.asks("e", Verb::Delete);
    assert!(!wanted(&gone.requests));
    assert_eq!(gone.requests.accepted.len(), 1, "nothing is left of what was asked before");
}

#[test]
fn a_declarative_field_asks_when_its_value_differs_from_the_one_handled_last() {
    let new = Server::default;
    let up = || new().declares(power(Power::Up));
    table(&[
        ("up", up(), "start m1"),
        ("up, applied again", up().handled().declares(power(Power::Up)), "nothing"),
        ("up, stopped through the API, applied again", up().asks("a", Verb::Stop).declares(power(Power::Up)), "stop a"),
        ("down", up().declares(power(Power::Down)), "stop m2"),
        ("down, and up again", up().declares(power(Power::Down)).handled().declares(power(Power::Up)), "start m3"),
        ("no opinion", up().handled().declares(|spec| spec.power = None), "nothing"),
        (
            "no opinion, and up again",
            up().handled().declares(|spec| spec.power = None).declares(power(Power::Up)),
            "start m2",
        ),
        ("a restart of a new server", new().declares(restarted("1")), "nothing"),
        ("a restart", new().declares(restarted("1")).declares(restarted("2")), "restart m1"),
        ("a restart of one that is up", up().declares(restarted("1")), "restart m2"),
        (
            "up and a restart at once",
            up().handled().declares(power(Power::Down)).handled().declares(|spec| {
                power(Power::Up)(spec);
                restarted("1")(spec);
            }),
            "restart m3",
        ),
        (
            "a restart of one that is to be down",
            new().declares(power(Power::Down)).handled().declares(restarted("1")),
            "nothing",
        ),
        ("an installation", new().declares(version("1")), "install m1, nothing"),
        ("an installation and up", new().declares(version("1")).declares(power(Power::Up)), "install m1, start m2"),
        (
            "both at once",
            new().declares(|spec| {
                power(Power::Up)(spec);
                version("1")(spec);
            }),
            "install m1, start m2",
        ),
        (
            "the same version",
            new().declares(version("1")).installed(InstallOutcome::Succeeded).declares(version("1")),
            "nothing",
        ),
        (
            "reverted",
            new()
                .declares(version("1"))
                .installed(InstallOutcome::Failed)
                .declares(version("2"))
                .installed(InstallOutcome::Succeeded)
                .declares(version("1")),
            "install m3, nothing",
        ),
        (
            "without a version",
            new().declares(version("1")).installed(InstallOutcome::Succeeded).declares(|spec| spec.install = None),
            "nothing",
        ),
    ]);
}

#[test]
fn values_count_as_handled_where_the_file_of_requests_was_lost() {
    let mut server = Server::default().declares(power(Power::Up)).declares(version("1"));
    server.requests =
        Requests { sequence: last_sequence(&server.requests, &server.record), lost: true, ..Requests::default() };
    server.read(false);
    assert_eq!(server.counts(), "nothing");
    assert!(!server.requests.lost);
    assert_eq!(server.declares(power(Power::Down)).counts(), "stop m3");
}

/// One thing that happens to a server.
#[derive(Debug, Clone)]
enum Happening {
    Asked(Verb, Option<i64>),
    Power(Option<Power>),
    Restarted(u8),
    Version(Option<u8>),
    AppliedAgain,
    Handled,
    Installed(bool),
    Later(i64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let verb = prop::sample::select(vec![
        Verb::Start,
        Verb::Stop,
        Verb::Restart,
        Verb::Kill,
        INSTALL,
        INSTALL_AND_START,
        Verb::Abort,
    ]);
    let powers = prop::sample::select(vec![None, Some(Power::Up), Some(Power::Down)]);
    let one = prop_oneof![
        (verb, prop::option::of(1i64..60)).prop_map(|(verb, wait)| Happening::Asked(verb, wait)),
        powers.prop_map(Happening::Power),
        (0u8..3).prop_map(Happening::Restarted),
        prop::option::of(0u8..3).prop_map(Happening::Version),
        Just(Happening::AppliedAgain),
        Just(Happening::Handled),
        any::<bool>().prop_map(Happening::Installed),
        (1i64..40).prop_map(Happening::Later),
    ];
    prop::collection::vec(one, 0..25)
}

/// The power requested in the end, by a model that keeps every request.
#[derive(Default)]
struct Model {
    /// Sequence, verb wants up, deadline.
    asked: Vec<(u64, bool, Option<i64>)>,
    handled: u64,
}

impl Model {
    fn counts(&self, now: i64) -> Option<bool> {
        let open = self.asked.iter().rev().filter(|(sequence, ..)| *sequence > self.handled);
        open.into_iter().find(|(.., deadline)| deadline.is_none_or(|deadline| now < deadline)).map(|(_, up, _)| *up)
    }
}

proptest! {
    #[test]
    fn requests_and_manifests_are_ordered_by_acceptance(happenings in happenings()) {
        let mut server = Server::default();
        server.spec.restarted_at = Some("0".into());
        server.read(true);
        let mut model = Model::default();
        for happening in happenings {
            let before = server.requests.clone();
            match happening {
                Happening::Asked(verb, wait) => {
                    let deadline = wait.filter(|_| verb.wants_up()).map(|wait| server.now + wait);
                    server.accept("a", verb, deadline.map(at));
                    // A start that follows an installation is as old as the installation; it is left to the tables.
                    if matches!(verb, Verb::Install { then_start: true, .. }) {
                        server.requests = before;
                        continue;
                    }
                    if verb.is_power() {
                        model.asked.push((server.requests.sequence, verb.wants_up(), deadline));
                    }
                }
                Happening::Power(power) => server.spec.power = power,
                Happening::Restarted(value) => server.spec.restarted_at = Some(value.to_string()),
                Happening::Version(version) => {
                    let version = version.map(|version| version.to_string());
                    server.spec.install = Some(Install { version, ..Install::default() });
                }
                Happening::AppliedAgain => {}
                Happening::Handled => {
                    if let Some(power) = server.asked().power() {
                        model.handled = power.sequence;
                        server = server.handled();
                    }
                }
                Happening::Installed(succeeded) if server.asked().install().is_some() => {
                    server = server.installed(if succeeded { InstallOutcome::Succeeded } else { InstallOutcome::Failed });
                }
                Happening::Installed(_) => {}
                Happening::Later(seconds) => server.now += seconds,
            }
            let declared = server.requests.declared.clone();
            server.read(false);
            if server.requests.sequence > before.sequence && server.requests.declared != declared {
                let power: Vec<&Request> = server.requests.accepted.iter()
                    .filter(|request| request.by == Requester::Manifest && request.sequence > before.sequence && request.verb.is_power())
                    .collect();
                prop_assert!(power.len() <= 1);
                model.asked.extend(power.iter().map(|request| (request.sequence, request.verb.wants_up(), None)));
            }
            // Read again, the same manifest asks for nothing.
            let settled = server.requests.clone();
            server.read(false);
            prop_assert_eq!(&server.requests, &settled);
            let counts = server.asked().power().map(|power| power.verb.wants_up());
            prop_assert_eq!(counts, model.counts(server.now));
            prop_assert!(server.requests.accepted.windows(2).all(|two| two[0].sequence < two[1].sequence));
            prop_assert!(server.requests.accepted.len() <= 30, "what no longer counts is dropped");
        }
    }
}

#[test]
fn the_timeout_of_a_pending_stop_stays_until_another_one_comes() {
    let (record, mut requests) = (Record::default(), Requests::default());
    let span = |seconds| Some(Span(std::time::Duration::from_secs(seconds)));
    for (verb, timeout, expected) in [
        (Verb::Stop, span(30), span(30)),
        (Verb::Stop, span(60), span(60)),
        // A start after a stop is a restart, which goes on with the stop.
        (Verb::Start, None, span(60)),
        // It may run by now.
        (Verb::Stop, None, None),
        (Verb::Stop, span(5), span(5)),
        (Verb::Kill, None, None),
        (Verb::Install { reinstall: true, then_start: false }, None, None),
    ] {
        let new = NewRequest { id: "a".into(), at: at(0), expires_at: None, timeout, by: Requester::Cli, verb };
        accept(&mut requests, &record, new);
        assert_eq!(requests.accepted.last().unwrap().timeout, expected, "{verb:?} {timeout:?}");
    }
}
