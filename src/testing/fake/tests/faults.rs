//! Faults, calls of other programs, and an engine that stops.

use super::*;
use crate::model::Owner;
use crate::runtime::ContainerChange;

/// Faults of one kind for one call.
#[derive(Default)]
struct One {
    call: &'static str,
    lose_answer: bool,
    never_answer: bool,
    takes: Option<Duration>,
}

#[async_trait]
impl Faults for One {
    async fn after(&self, call: Call) -> Result<(), RuntimeError> {
        if call.name == self.call && self.never_answer {
            std::future::pending::<()>().await;
        }
        if call.name == self.call && self.lose_answer { Err(unreachable("lost")) } else { Ok(()) }
    }

    fn takes(&self, call: &Call) -> Option<Duration> {
        self.takes.filter(|_| call.name == self.call)
    }
}

fn is_timeout<T>(result: Result<T, RuntimeError>) -> bool {
    result.is_err_and(|error| error.kind == ErrorKind::Timeout)
}

#[tokio::test(start_paused = true)]
async fn a_hanging_container_holds_up_its_own_calls_for_their_limits() {
    let engine = machine();
    let runtime = faultless(&engine);
    let (one, two) = (server(1), server(2));
    let name = container_name(one, Role::Server);
    let id = make(&runtime, one, Role::Server).await;
    engine.hang(&name, true);
    let took = async |limit: u64, timed_out: bool, began: Instant| {
        assert!(timed_out);
        assert_eq!(began.elapsed(), Duration::from_secs(limit));
    };
    let now = Instant::now;
    let at = now();
    took(10, is_timeout(runtime.inspect(one, Role::Server).await), at).await;
    let at = now();
    took(30, is_timeout(runtime.start(&id).await), at).await;
    let at = now();
    took(10, is_timeout(runtime.signal(&id, "SIGKILL").await), at).await;
    let at = now();
    took(10, is_timeout(runtime.update(&id, &Limits::default()).await), at).await;
    let at = now();
    took(60, is_timeout(runtime.remove(&id).await), at).await;
    let at = now();
    took(10, is_timeout(runtime.attach(&id).await), at).await;
    let at = now();
    let again = runtime.create(&spec(one, Role::Server), &purpose(one, Role::Server, "t")).await;
    took(60, is_timeout(again), at).await;

    let at = now();
    make_running(&runtime, two, Role::Server).await;
    assert_eq!(runtime.list().await.unwrap().len(), 2);
    assert_eq!(at.elapsed(), Duration::ZERO);

    let (started, ()) = tokio::join!(runtime.start(&id), async {
        tokio::time::sleep(5 * SECOND).await;
        engine.hang(&name, false);
    });
    started.unwrap();
    assert_eq!(at.elapsed(), 5 * SECOND);
    assert_eq!(engine.state_of(&name), Some(ContainerState::Running));
}

#[tokio::test(start_paused = true)]
async fn the_answer_may_be_lost_although_it_was_done() {
    let engine = machine();
    for (lose_answer, never_answer) in [(true, false), (false, true)] {
        let one = One { call: "create", lose_answer, never_answer, takes: None };
        let runtime = FakeRuntime::new(engine.clone(), Arc::new(one), crate::testing::test_host());
        let of = server(u128::from(lose_answer));
        let result = runtime.create(&spec(of, Role::Server), &purpose(of, Role::Server, "t")).await;
        assert!(result.unwrap_err().is_outage());
        assert!(runtime.inspect(of, Role::Server).await.unwrap().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn the_engine_goes_on_when_its_caller_is_gone() {
    let engine = machine();
    let one = One { call: "create", takes: Some(90 * SECOND), ..One::default() };
    let runtime = FakeRuntime::new(engine.clone(), Arc::new(one), crate::testing::test_host());
    let of = server(1);
    assert!(is_timeout(runtime.create(&spec(of, Role::Server), &purpose(of, Role::Server, "t")).await));
    assert_eq!(runtime.inspect(of, Role::Server).await.unwrap(), None);
    tokio::time::sleep(31 * SECOND).await;
    assert!(runtime.inspect(of, Role::Server).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_second_removal_reports_that_the_first_is_in_progress() {
    let engine = machine();
    let one = One { call: "remove", takes: Some(90 * SECOND), ..One::default() };
    let runtime = FakeRuntime::new(engine.clone(), Arc::new(one), crate::testing::test_host());
    let id = make(&runtime, server(1), Role::Server).await;
    let mut events = runtime.events().await.unwrap();
    assert!(is_timeout(runtime.remove(&id).await));
    assert_eq!(runtime.remove(&id).await, Ok(Removal::UnderWay));
    assert!(runtime.inspect(server(1), Role::Server).await.unwrap().is_some());
    assert_eq!(events.next().await.unwrap().change, ContainerChange::Removed);
    assert_eq!(runtime.inspect(server(1), Role::Server).await, Ok(None));
}

/// Treats events by what happened.
struct ByChange;

impl Faults for ByChange {
    fn deliver(&self, event: &RuntimeEvent) -> Delivery {
        match event.change {
            ContainerChange::Created => Delivery::Lost,
            ContainerChange::Started => Delivery::Late(3 * SECOND),
            ContainerChange::Ended => Delivery::Twice,
            _ => Delivery::Once,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_lost_doubled_and_late() {
    let engine = machine();
    let runtime = FakeRuntime::new(engine.clone(), Arc::new(ByChange), crate::testing::test_host());
    let mut events = runtime.events().await.unwrap();
    let began = Instant::now();
    make_running(&runtime, server(1), Role::Installer).await;
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        let event = tokio::time::timeout(60 * SECOND, events.next()).await.unwrap().unwrap();
        assert_eq!((event.server, event.role), (server(1), Role::Installer));
        acknowledged.push((event.change, began.elapsed()));
    }
    let (ended, started) = (ContainerChange::Ended, ContainerChange::Started);
    assert_eq!(acknowledged, [(ended, 2 * SECOND), (ended, 2 * SECOND), (started, 3 * SECOND)]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_away_ends_streams_and_containers() {
    let engine = machine();
    let runtime = faultless(&engine);
    let name = container_name(server(1), Role::Server);
    let id = make_running(&runtime, server(1), Role::Server).await;
    let mut events = runtime.events().await.unwrap();
    let mut terminal = runtime.attach(&id).await.unwrap();
    assert_eq!(engine.attachments(&name), 1);
    engine.set_engine_up(false);
    assert_eq!(events.next().await, None);
    while terminal.output.next().await.is_some() {}
    let typed = tokio::io::AsyncWriteExt::write_all(&mut terminal.input, b"stop\n").await;
    assert_eq!(typed.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(engine.attachments(&name), 0);
    assert_eq!(runtime.list().await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(runtime.start(&id).await.unwrap_err().kind, ErrorKind::Unavailable);
    engine.set_engine_up(true);
    assert_eq!(engine.state_of(&name), Some(ContainerState::Exited { code: KILLED, oom_killed: false }));
    runtime.start(&id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn containers_may_outlive_the_engine_and_end_unseen() {
    let engine = machine();
    engine.set_live_restore(true);
    let runtime = faultless(&engine);
    make_running(&runtime, server(1), Role::Installer).await;
    let id = make_running(&runtime, server(2), Role::Server).await;
    let mut terminal = runtime.attach(&id).await.unwrap();
    engine.set_engine_up(false);
    tokio::time::sleep(60 * SECOND).await;
    engine.set_engine_up(true);
    let typed = tokio::io::AsyncWriteExt::write_all(&mut terminal.input, b"stop\n").await;
    assert!(typed.is_err(), "the connection did not outlive the engine");
    let installer = runtime.inspect(server(1), Role::Installer).await.unwrap().unwrap();
    assert_eq!(installer.state, ContainerState::Exited { code: 0, oom_killed: false });
    assert_eq!(installer.finished_at.unwrap().since(installer.started_at.unwrap()), 2 * SECOND);
    assert!(runtime.inspect(server(2), Role::Server).await.unwrap().unwrap().running());
}

#[tokio::test(start_paused = true)]
async fn pulls_take_time_are_counted_and_end_with_their_caller() {
    let engine = machine();
    let remote = RemoteImage { takes: 5 * SECOND, ..RemoteImage::default() };
    engine.publish_image("game:1", remote.clone());
    let runtime = faultless(&engine);
    let quiet = |_: String| {};
    let given_up = tokio::time::timeout(4 * SECOND, runtime.pull("game:1", None, &quiet)).await;
    assert!(given_up.is_err());
    assert!(runtime.image("game:1").await.unwrap().is_none());
    let began = Instant::now();
    let (one, two) = tokio::join!(runtime.pull("game:1", None, &quiet), runtime.pull("game:1", None, &quiet));
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert!(runtime.image("docker.io/library/game:1").await.unwrap().is_some());
    let wanted = Pulls { begun: 3, succeeded: 2, running: 0, most_at_once: 2 };
    assert_eq!(engine.pulls("game:1"), wanted);

    let broken = RemoteImage { fails: Some("toomanyrequests".into()), ..remote.clone() };
    engine.publish_image("broken", broken);
    assert!(runtime.pull("broken", None, &quiet).await.unwrap_err().to_string().contains("toomanyrequests"));
    let login = Some(("user".to_owned(), "password".to_owned()));
    engine.publish_image("private", RemoteImage { login, ..remote.clone() });
    assert!(runtime.pull("private", None, &quiet).await.is_err());
    let auth = RegistryFile { username: "user".into(), password: crate::config::Secret::new("password") };
    runtime.pull("private", Some(&auth), &quiet).await.unwrap();
    engine.set_registry_up(false);
    assert!(runtime.pull("game:1", None, &quiet).await.is_err());

    engine.set_registry_up(true);
    let (pull, ()) = tokio::join!(runtime.pull("game:1", None, &quiet), async {
        tokio::time::sleep(SECOND).await;
        engine.set_engine_up(false);
    });
    assert_eq!(pull.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn containers_of_others_are_listed_by_name_or_not_at_all() {
    let engine = machine();
    let runtime = faultless(&engine);
    let name = container_name(server(1), Role::Installer);
    engine.create_foreign("proxy").unwrap();
    let id = engine.create_foreign(&name).unwrap();
    assert_eq!(engine.create_foreign(&name), None);
    assert!(engine.start_outside(&name));
    let wanted = Listed { server: server(1), role: Role::Installer, id, running: true, owner: Owner::Unlabelled };
    assert_eq!(runtime.list().await.unwrap(), [wanted]);
    assert!(engine.kill_outside(&name));
    assert!(!engine.kill_outside(&name));
    assert!(engine.remove_outside(&name));
    assert_eq!(engine.container_names(), ["proxy"]);
}
