//! Consoles with the engine in memory: attachments, and restarts of the daemon.

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

/// An engine and the folder of one server.
struct Machine {
    root: TempDir,
    events: Events,
    engine: FakeEngine,
}

/// The console of one daemon.
struct Daemon {
    console: Console,
    tasks: Tasks,
    wakes: Arc<AtomicU32>,
}

impl Machine {
    fn new() -> Self {
        let engine = FakeEngine::default();
        engine.add_image("box", LocalImage::default());
        Self { root: TempDir::new().unwrap(), events: Events::new(Clock::System), engine }
    }

    fn daemon(&self) -> Daemon {
        let (tasks, wakes) = (Tasks::new(), Arc::new(AtomicU32::new(0)));
        let mut node = crate::testing::node_config(Path::new("/node"));
        node.app_name = "alula".into();
        (node.max_transcript_bytes, node.max_transcript_files) = (1 << 20, 2);
        let count = wakes.clone();
        let console = Console::new(
            Arc::new(self.runtime()),
            Blocking::Inline,
            self.events.clone(),
            &node,
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

    /// Creates a container with this program, after removing an earlier one.
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
async fn a_server_starts_gets_a_command_and_ends() {
    let (machine, startup) = (Machine::new(), done("Done!"));
    let daemon = machine.daemon();
    let console = &daemon.console;
    let container = machine.container(Program::server(&ServerScript::default())).await;
    assert_eq!((console.attached(id()), console.done_seen(id())), (None, None));

    console.attach(id(), &container, Some(&startup), &machine.logs(), false).await.unwrap();
    console.attach(id(), &container, Some(&startup), &machine.logs(), false).await.unwrap();
    assert_eq!(machine.engine.attachments(&container), 1);
    machine.runtime().start(&container).await.unwrap();
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
    let text = machine.transcript();
    assert_eq!(
        text,
        "booting\nDone! For help, type \"help\"\nsay hello\nhello\n[alula Daemon]: stopping\n\
         [alula Daemon]: because of  [1mtests\nstop\nStopping the server\n"
    );
    assert!(daemon.tasks.running().is_empty(), "nothing runs when nothing happens");
}

#[tokio::test(start_paused = true)]
async fn the_stop_command_in_the_output_has_no_effect() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let container = machine.container(printing(&[(1, "stop"), (2, "ready")])).await;
    daemon.console.attach(id(), &container, Some(&done("ready")), &machine.logs(), false).await.unwrap();
    machine.runtime().start(&container).await.unwrap();
    tokio::time::sleep(3 * SECOND / 2).await;
    assert_eq!(daemon.wakes(), 0);
    assert_eq!(daemon.console.attached(id()), Some(container));
}

#[tokio::test(start_paused = true)]
async fn another_container_replaces_the_attachment() {
    let (machine, startup) = (Machine::new(), done("ready"));
    let daemon = machine.daemon();
    let console = &daemon.console;
    let first = machine.container(printing(&[(0, "ready")])).await;
    console.attach(id(), &first, Some(&startup), &machine.logs(), false).await.unwrap();
    machine.runtime().start(&first).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(console.done_seen(id()), Some(first));
    let wakes = daemon.wakes();

    let second = machine.container(printing(&[(0, "again"), (5, "ready")])).await;
    console.attach(id(), &second, Some(&startup), &machine.logs(), false).await.unwrap();
    assert_eq!((console.attached(id()), console.done_seen(id())), (Some(second.clone()), None));
    machine.runtime().start(&second).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(console.attached(id()), Some(second.clone()), "the end of the first is not the second's");
    assert!(daemon.wakes() <= wakes + 1);
    assert_eq!(machine.transcript(), "ready\nagain\n");

    console.detach(id());
    assert_eq!((console.attached(id()), console.done_seen(id())), (None, None));
    let wakes = daemon.wakes();
    tokio::time::sleep(SECOND).await;
    assert_eq!((machine.engine.attachments(&second), daemon.wakes()), (0, wakes));
}

#[tokio::test(start_paused = true)]
async fn a_server_has_one_attachment() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let first = machine.container(Program::idle()).await;
    let purpose = Purpose { server: id(), role: Role::Server, token: "token".into() };
    let second = machine.runtime().create(&container_spec("another", "box"), &purpose).await.unwrap();
    for container in [&first, &second] {
        machine.runtime().start(container).await.unwrap();
        daemon.console.attach(id(), container, None, &machine.logs(), false).await.unwrap();
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!((machine.engine.attachments(&first), machine.engine.attachments(&second)), (0, 1));
    assert_eq!(daemon.wakes(), 0, "that was no news");
}

#[tokio::test(start_paused = true)]
async fn the_matcher_can_be_replaced_during_the_start_up() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let container = machine.container(printing(&[(1, "up"), (3, "up and ready")])).await;
    daemon.console.attach(id(), &container, Some(&done("typo")), &machine.logs(), false).await.unwrap();
    machine.runtime().start(&container).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    daemon.console.attach(id(), &container, Some(&done("ready")), &machine.logs(), false).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(daemon.console.done_seen(id()), Some(container));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_daemon_continues_the_transcript() {
    for crash in [false, true] {
        let (machine, startup) = (Machine::new(), done("ready"));
        let container = machine.container(printing(&[(1, "a"), (3, "ready"), (4, "b"), (6, "c"), (8, "d")])).await;
        let old = machine.daemon();
        old.console.attach(id(), &container, Some(&startup), &machine.logs(), false).await.unwrap();
        machine.runtime().start(&container).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        if crash {
            old.tasks.abort_all();
        } else {
            assert!(old.tasks.shutdown(SECOND).await.is_empty());
        }
        tokio::time::sleep(5 * SECOND / 2).await;
        assert_eq!(machine.engine.attachments(&container), 0);

        let new = machine.daemon();
        new.console.attach(id(), &container, Some(&startup), &machine.logs(), true).await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(new.console.done_seen(id()), Some(container.clone()), "seen in the log");
        tokio::time::sleep(SECOND).await;
        new.tasks.abort_all();

        // The server has started; the log's tail is enough.
        let newest = machine.daemon();
        tokio::time::sleep(SECOND).await;
        newest.console.attach(id(), &container, None, &machine.logs(), true).await.unwrap();
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(machine.transcript(), "a\nready\nb\nc\nd\n", "crash: {crash}");
        assert_eq!(newest.console.done_seen(id()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attachment_after_an_outage_of_the_engine_continues_the_transcript() {
    let machine = Machine::new();
    machine.engine.set_live_restore(true);
    let daemon = machine.daemon();
    let container = machine.container(printing(&[(1, "a"), (3, "b"), (5, "c")])).await;
    daemon.console.attach(id(), &container, None, &machine.logs(), false).await.unwrap();
    machine.runtime().start(&container).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    machine.engine.set_engine_up(false);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!((daemon.console.attached(id()), daemon.wakes()), (None, 1));
    let rejected = daemon.console.attach(id(), &container, None, &machine.logs(), true).await.unwrap_err();
    assert!(rejected.is_outage(), "{rejected}");
    machine.engine.set_engine_up(true);
    daemon.console.attach(id(), &container, None, &machine.logs(), true).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(machine.transcript(), "a\nb\nc\n");
}

#[tokio::test(start_paused = true)]
async fn a_finished_start_up_is_kept_when_the_container_is_attached_again() {
    let (machine, startup) = (Machine::new(), done("ready"));
    machine.engine.set_live_restore(true);
    let daemon = machine.daemon();
    let container = machine.container(printing(&[(1, "ready"), (9, "b")])).await;
    daemon.console.attach(id(), &container, Some(&startup), &machine.logs(), false).await.unwrap();
    machine.runtime().start(&container).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    machine.engine.set_engine_up(false);
    tokio::time::sleep(2 * SECOND).await;
    machine.engine.set_engine_up(true);
    daemon.console.attach(id(), &container, Some(&startup), &machine.logs(), false).await.unwrap();
    assert_eq!(daemon.console.done_seen(id()), Some(container));
}

#[tokio::test(start_paused = true)]
async fn long_commands_are_rejected_and_unread_ones_time_out() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let long = "x".repeat(MAX_COMMAND + 1);
    assert!(matches!(daemon.console.send_command(id(), &long).await, Err(ConsoleError::TooLong { .. })));

    let container = machine.container(Program::idle()).await;
    daemon.console.attach(id(), &container, None, &machine.logs(), false).await.unwrap();
    // A full channel stands for a server that does not read.
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
        EventKind::Console(output) => output.lines().map(|(_, line)| line).collect::<Vec<_>>().join("\n"),
        EventKind::Daemon { line, .. } => format!("daemon: {line}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn lines_are_published_as_they_come() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    let mut watcher = machine.events.subscribe(id());
    let container = machine.container(printing(&[(0, "a"), (1, "b")])).await;
    daemon.console.attach(id(), &container, None, &machine.logs(), false).await.unwrap();
    daemon.console.announce(id(), "starting");
    machine.runtime().start(&container).await.unwrap();
    assert_eq!(next_line(&mut watcher).await, "daemon: starting");
    assert_eq!(next_line(&mut watcher).await, "a");
    daemon.console.detach(id());
    daemon.console.announce(id(), "the server is still there");
    assert_eq!(next_line(&mut watcher).await, "daemon: the server is still there");
}

/// Handovers at each moment of the output: the transcript and later lines have each line once.
#[tokio::test(start_paused = true)]
async fn handover_and_later_lines_have_no_gap() {
    let lines: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
    for moment in (0..4200).step_by(130) {
        let machine = Machine::new();
        let daemon = machine.daemon();
        let script = lines
            .iter()
            .enumerate()
            .map(|(at, line)| (Duration::from_millis(100 * at as u64), Act::Print(line.clone())));
        let container = machine.container(Program { script: script.collect(), ..Program::default() }).await;
        daemon.console.attach(id(), &container, None, &machine.logs(), false).await.unwrap();
        machine.runtime().start(&container).await.unwrap();
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let mut subscription = machine.events.subscribe(id());
        // What comes before the handover is in both.
        tokio::time::sleep(Duration::from_millis(moment % 400)).await;
        let mut handover = daemon.console.handover(id(), &machine.logs()).await.unwrap();
        let mut text = String::new();
        if let Some(file) = &mut handover.file {
            text = String::from_utf8(file.next_piece().unwrap()).unwrap();
        }
        tokio::time::sleep(5 * SECOND).await;
        while let Some(event) = subscription.try_recv() {
            if let EventKind::Console(output) = &event.kind {
                let later = output.lines().filter(|(number, _)| *number > handover.last);
                later.for_each(|(_, line)| text += &format!("{line}\n"));
            }
        }
        assert_eq!(text, lines.join("\n") + "\n", "at {moment} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handover_without_a_transcript_has_the_waiting_lines() {
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon.console.announce(id(), "pulling the image");
    let handover = daemon.console.handover(id(), &machine.logs()).await.unwrap();
    assert!(handover.file.is_none());
    assert_eq!(String::from_utf8(handover.unwritten).unwrap(), "[alula Daemon]: pulling the image\n");
    let mut subscription = machine.events.subscribe(id());
    daemon.console.announce(id(), "starting");
    match subscription.recv().await.unwrap().kind {
        EventKind::Daemon { number, .. } => assert!(number > handover.last),
        ref other => panic!("{other:?}"),
    }
}
