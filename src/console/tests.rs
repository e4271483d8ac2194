//! Consoles over the runtime in memory: the life of attachments, and what a new daemon finds.

use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::events::Subscription;
use crate::model::Role;
use crate::runtime::{Purpose, container_name};
use crate::testing::container_spec;
use crate::testing::fake::{Act, FakeEngine, FakeRuntime, LocalImage, Program, ServerScript};

const SECOND: Duration = Duration::from_secs(1);

fn id() -> ServerId {
    ServerId::new(uuid::Uuid::from_u128(1))
}

/// A machine with one server's folder.
struct House {
    root: TempDir,
    events: Events,
    engine: FakeEngine,
}

/// One daemon's life.
struct Daemon {
    console: Console,
    tasks: Tasks,
    wakes: Arc<AtomicU32>,
}

impl House {
    fn new() -> Self {
        let engine = FakeEngine::default();
        engine.add_image("box", LocalImage::default());
        Self { root: TempDir::new().unwrap(), events: Events::new(Clock::System), engine }
    }

    fn daemon(&self) -> Daemon {
        let (tasks, wakes) = (Tasks::new(), Arc::new(AtomicU32::new(0)));
        let options =
            ConsoleOptions { app_name: "alula".into(), max_transcript_bytes: 1 << 20, max_transcript_files: 2 };
        let count = wakes.clone();
        let console = Console::new(
            Arc::new(self.runtime()),
            Blocking::Inline,
            self.events.clone(),
            options,
            tasks.clone(),
            Arc::new(move |woken| {
                assert_eq!(woken, id());
                count.fetch_add(1, Ordering::Relaxed);
            }),
        );
        Daemon { console, tasks, wakes }
    }

    fn runtime(&self) -> FakeRuntime {
        FakeRuntime::faultless(self.engine.clone(), crate::testing::test_host())
    }

    /// Makes a container that will run this program; an earlier one is removed.
    async fn container(&self, program: Program) -> String {
        self.engine.set_program("box", program);
        let name = container_name(id(), Role::Server);
        self.runtime().remove(&name).await.unwrap();
        let purpose = Purpose { server: id(), role: Role::Server, token: "token".into() };
        self.runtime().create(&container_spec(&name, "box"), &purpose).await.unwrap()
    }

    fn logs(&self) -> std::path::PathBuf {
        self.root.path().join("logs")
    }

    fn transcript(&self) -> String {
        std::fs::read_to_string(self.logs().join(TRANSCRIPT_FILE)).unwrap_or_default()
    }
}

fn done(text: &str) -> Startup {
    Startup { done: vec![text.into()], strip_ansi: false }
}

fn printing(lines: &[(u64, &str)]) -> Program {
    let print = |(at, line): &(u64, &str)| (Duration::from_secs(*at), Act::Print((*line).into()));
    let script = lines.iter().map(print).collect();
    Program { script, ..Program::default() }
}

impl Daemon {
    fn wakes(&self) -> u32 {
        self.wakes.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_starts_is_typed_into_and_ends() {
    let (house, startup) = (House::new(), done("Done!"));
    let daemon = house.daemon();
    let console = &daemon.console;
    let container = house.container(Program::server(&ServerScript::default())).await;
    assert_eq!((console.attached(id()), console.done_seen(id())), (None, None));

    console.attach(id(), &container, Some(&startup), &house.logs(), false).await.unwrap();
    console.attach(id(), &container, Some(&startup), &house.logs(), false).await.unwrap();
    assert_eq!(house.engine.attachments(&container), 1);
    house.runtime().start(&container).await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!((console.attached(id()), console.done_seen(id())), (Some(container.clone()), None));
    tokio::time::sleep(SECOND).await;
    assert_eq!(console.done_seen(id()), Some(container.clone()));
    assert_eq!(daemon.wakes(), 1);

    console.send_command(id(), "say hello").await.unwrap();
    tokio::time::sleep(SECOND).await;
    console.announce(id(), "stopping\nbecause of \x1b[1mtests");
    console.send_command(id(), "stop").await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(console.attached(id()), None);
    assert_eq!(console.done_seen(id()), Some(container), "known beyond the end");
    assert_eq!(daemon.wakes(), 2);
    assert!(matches!(console.send_command(id(), "late").await, Err(ConsoleError::NotAttached(_))));
    let text = house.transcript();
    assert_eq!(
        text,
        "booting\nDone! For help, type \"help\"\nsay hello\nhello\n[alula Daemon]: stopping\n\
         [alula Daemon]: because of  [1mtests\nstop\nStopping the server\n"
    );
    assert!(daemon.tasks.running().is_empty(), "nothing runs when nothing happens");
}

#[tokio::test(start_paused = true)]
async fn the_stop_command_as_output_means_nothing() {
    let house = House::new();
    let daemon = house.daemon();
    let container = house.container(printing(&[(1, "stop"), (2, "ready")])).await;
    daemon.console.attach(id(), &container, Some(&done("ready")), &house.logs(), false).await.unwrap();
    house.runtime().start(&container).await.unwrap();
    tokio::time::sleep(3 * SECOND / 2).await;
    assert_eq!(daemon.wakes(), 0);
    assert_eq!(daemon.console.attached(id()), Some(container));
}

#[tokio::test(start_paused = true)]
async fn another_container_takes_the_place() {
    let (house, startup) = (House::new(), done("ready"));
    let daemon = house.daemon();
    let console = &daemon.console;
    let first = house.container(printing(&[(0, "ready")])).await;
    console.attach(id(), &first, Some(&startup), &house.logs(), false).await.unwrap();
    house.runtime().start(&first).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(console.done_seen(id()), Some(first));
    let wakes = daemon.wakes();

    let second = house.container(printing(&[(0, "again"), (5, "ready")])).await;
    console.attach(id(), &second, Some(&startup), &house.logs(), false).await.unwrap();
    assert_eq!((console.attached(id()), console.done_seen(id())), (Some(second.clone()), None));
    house.runtime().start(&second).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(console.attached(id()), Some(second.clone()), "the end of the first is not the second's");
    assert!(daemon.wakes() <= wakes + 1);
    assert_eq!(house.transcript(), "ready\nagain\n");

    console.detach(id());
    assert_eq!((console.attached(id()), console.done_seen(id())), (None, None));
    let wakes = daemon.wakes();
    tokio::time::sleep(SECOND).await;
    assert_eq!((house.engine.attachments(&second), daemon.wakes()), (0, wakes));
}

#[tokio::test(start_paused = true)]
async fn a_server_has_one_attachment() {
    let house = House::new();
    let daemon = house.daemon();
    let first = house.container(Program::idle()).await;
    let purpose = Purpose { server: id(), role: Role::Server, token: "token".into() };
    let second = house.runtime().create(&container_spec("another", "box"), &purpose).await.unwrap();
    for container in [&first, &second] {
        house.runtime().start(container).await.unwrap();
        daemon.console.attach(id(), container, None, &house.logs(), false).await.unwrap();
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!((house.engine.attachments(&first), house.engine.attachments(&second)), (0, 1));
    assert_eq!(daemon.wakes(), 0, "that was no news");
}

#[tokio::test(start_paused = true)]
async fn the_matcher_can_be_replaced_during_the_start_up() {
    let house = House::new();
    let daemon = house.daemon();
    let container = house.container(printing(&[(1, "up"), (3, "up and ready")])).await;
    daemon.console.attach(id(), &container, Some(&done("typo")), &house.logs(), false).await.unwrap();
    house.runtime().start(&container).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    daemon.console.attach(id(), &container, Some(&done("ready")), &house.logs(), false).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(daemon.console.done_seen(id()), Some(container));
}

#[tokio::test(start_paused = true)]
async fn a_new_daemon_goes_on_where_the_old_one_stood() {
    for crash in [false, true] {
        let (house, startup) = (House::new(), done("ready"));
        let container = house.container(printing(&[(1, "a"), (3, "ready"), (4, "b"), (6, "c"), (8, "d")])).await;
        let old = house.daemon();
        old.console.attach(id(), &container, Some(&startup), &house.logs(), false).await.unwrap();
        house.runtime().start(&container).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        if crash {
            old.tasks.abort_all();
        } else {
            assert!(old.tasks.shutdown(SECOND).await.is_empty());
        }
        tokio::time::sleep(5 * SECOND / 2).await;
        assert_eq!(house.engine.attachments(&container), 0);

        let new = house.daemon();
        new.console.attach(id(), &container, Some(&startup), &house.logs(), true).await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(new.console.done_seen(id()), Some(container.clone()), "seen in the log");
        tokio::time::sleep(SECOND).await;
        new.tasks.abort_all();

        // The server has started; the log's tail is enough.
        let newest = house.daemon();
        tokio::time::sleep(SECOND).await;
        newest.console.attach(id(), &container, None, &house.logs(), true).await.unwrap();
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(house.transcript(), "a\nready\nb\nc\nd\n", "crash: {crash}");
        assert_eq!(newest.console.done_seen(id()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_was_away_is_taken_up_again_too() {
    let house = House::new();
    house.engine.set_live_restore(true);
    let daemon = house.daemon();
    let container = house.container(printing(&[(1, "a"), (3, "b"), (5, "c")])).await;
    daemon.console.attach(id(), &container, None, &house.logs(), false).await.unwrap();
    house.runtime().start(&container).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    house.engine.set_engine_up(false);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!((daemon.console.attached(id()), daemon.wakes()), (None, 1));
    let rejected = daemon.console.attach(id(), &container, None, &house.logs(), true).await.unwrap_err();
    assert!(rejected.is_outage(), "{rejected}");
    house.engine.set_engine_up(true);
    daemon.console.attach(id(), &container, None, &house.logs(), true).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(house.transcript(), "a\nb\nc\n");
}

#[tokio::test(start_paused = true)]
async fn a_start_up_that_was_seen_stays_seen_when_the_attachment_is_made_again() {
    let (house, startup) = (House::new(), done("ready"));
    house.engine.set_live_restore(true);
    let daemon = house.daemon();
    let container = house.container(printing(&[(1, "ready"), (9, "b")])).await;
    daemon.console.attach(id(), &container, Some(&startup), &house.logs(), false).await.unwrap();
    house.runtime().start(&container).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    house.engine.set_engine_up(false);
    tokio::time::sleep(2 * SECOND).await;
    house.engine.set_engine_up(true);
    daemon.console.attach(id(), &container, Some(&startup), &house.logs(), false).await.unwrap();
    assert_eq!(daemon.console.done_seen(id()), Some(container));
}

#[tokio::test(start_paused = true)]
async fn long_lines_are_rejected_and_unread_ones_are_given_up() {
    let house = House::new();
    let daemon = house.daemon();
    let long = "x".repeat(MAX_COMMAND + 1);
    assert!(matches!(daemon.console.send_command(id(), &long).await, Err(ConsoleError::TooLong { .. })));

    let container = house.container(Program::idle()).await;
    daemon.console.attach(id(), &container, None, &house.logs(), false).await.unwrap();
    // A task that does not come to it stands for a server that does not read.
    let commands = daemon.console.inner.slots().get(&id()).unwrap().attached.as_ref().unwrap().commands.clone();
    let full = commands.reserve_many(COMMANDS).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(matches!(daemon.console.send_command(id(), "x").await, Err(ConsoleError::NotRead { .. })));
    assert_eq!(began.elapsed(), COMMAND_TIMEOUT);
    drop(full);
    daemon.console.send_command(id(), "x").await.unwrap();
}

/// The text of what is printed by a server or its daemon.
async fn next_line(subscription: &mut Subscription) -> String {
    match &subscription.recv().await.unwrap().kind {
        EventKind::Console { line, .. } => line.to_string(),
        EventKind::Daemon { line, .. } => format!("daemon: {line}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn lines_are_published_as_they_come() {
    let house = House::new();
    let daemon = house.daemon();
    let mut watcher = house.events.subscribe(id());
    let container = house.container(printing(&[(0, "a"), (1, "b")])).await;
    daemon.console.attach(id(), &container, None, &house.logs(), false).await.unwrap();
    daemon.console.announce(id(), "starting");
    house.runtime().start(&container).await.unwrap();
    assert_eq!(next_line(&mut watcher).await, "daemon: starting");
    assert_eq!(next_line(&mut watcher).await, "a");
    daemon.console.detach(id());
    daemon.console.announce(id(), "the server is still there");
    assert_eq!(next_line(&mut watcher).await, "daemon: the server is still there");
}

/// Handovers at each moment of a server's printing: transcript and later lines are all lines, each once.
#[tokio::test(start_paused = true)]
async fn a_reader_of_the_transcript_takes_over_from_it_without_a_gap() {
    let lines: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
    for moment in (0..4200).step_by(130) {
        let house = House::new();
        let daemon = house.daemon();
        let script = lines
            .iter()
            .enumerate()
            .map(|(at, line)| (Duration::from_millis(100 * at as u64), Act::Print(line.clone())));
        let container = house.container(Program { script: script.collect(), ..Program::default() }).await;
        daemon.console.attach(id(), &container, None, &house.logs(), false).await.unwrap();
        house.runtime().start(&container).await.unwrap();
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let mut subscription = house.events.subscribe(id());
        // What comes before the handover is in both.
        tokio::time::sleep(Duration::from_millis(moment % 400)).await;
        let mut handover = daemon.console.handover(id(), &house.logs()).await.unwrap();
        let mut text = String::new();
        if let Some(file) = &mut handover.file {
            text = String::from_utf8(file.next_piece().unwrap()).unwrap();
        }
        tokio::time::sleep(5 * SECOND).await;
        while let Some(event) = subscription.try_recv() {
            if let EventKind::Console { line, number } = &event.kind
                && *number > handover.last
            {
                text += &format!("{line}\n");
            }
        }
        assert_eq!(text, lines.join("\n") + "\n", "at {moment} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_transcript_yet_is_handed_over_too() {
    let house = House::new();
    let daemon = house.daemon();
    daemon.console.announce(id(), "pulling the image");
    let handover = daemon.console.handover(id(), &house.logs()).await.unwrap();
    assert!(handover.file.is_none());
    assert_eq!(String::from_utf8(handover.unwritten).unwrap(), "[alula Daemon]: pulling the image\n");
    let mut subscription = house.events.subscribe(id());
    daemon.console.announce(id(), "starting");
    match subscription.recv().await.unwrap().kind {
        EventKind::Daemon { number, .. } => assert!(number > handover.last),
        ref other => panic!("{other:?}"),
    }
}
