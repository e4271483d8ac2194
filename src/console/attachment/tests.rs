//! Attachments to a scripted terminal: unread input, broken connections, long output, and late logs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::console::throttle::Throttle;
use crate::console::transcript::{Rules, TRANSCRIPT_FILE};
use crate::console::{Features, Sinks};
use crate::events::{EventKind, Events, Subscription};
use crate::model::ServerId;
use crate::model::settings::Startup;
use crate::runtime::{ErrorKind, LogPart, RuntimeError};
use crate::store::Blocking;
use crate::tasks::Tasks;
use crate::testing::fake::{Act, FakeEngine, FakeRuntime, Program};

type Piece = Result<Bytes, RuntimeError>;

/// The other end of an attachment.
struct Terminal {
    root: TempDir,
    output: mpsc::Sender<Piece>,
    input: DuplexStream,
    commands: mpsc::Sender<Command>,
    startup: watch::Sender<Option<Startup>>,
    done: Arc<Mutex<u32>>,
    watcher: Subscription,
    task: JoinHandle<()>,
}

/// The buffer of a terminal that is not read.
const ROOM: usize = 16;

async fn sinks(root: &TempDir) -> Sinks {
    let rules = Arc::new(Rules {
        max_bytes: 1 << 20,
        max_files: 2,
        daemon: "[alula Daemon]: ".into(),
        numbers: Arc::default(),
    });
    let transcript = Transcript::new(ServerId::new(uuid::Uuid::nil()), rules, Blocking::Inline, Tasks::new());
    transcript.open(&root.path().join("logs"), "one", false).await;
    Sinks { transcript, events: Events::new(Clock::System) }
}

fn viewers(sinks: Sinks) -> Box<Viewers> {
    Box::new(Viewers::new(sinks, watch::channel(Features::default()).1, Throttle::new(None)))
}

async fn terminal(done: &[&str], replay: Option<Replay>) -> Terminal {
    let root = TempDir::new().unwrap();
    let server = ServerId::new(uuid::Uuid::nil());
    let sinks = sinks(&root).await;
    let watcher = sinks.events.subscribe(server);
    let (output, mut pieces) = mpsc::channel(8);
    let (input, keyboard) = tokio::io::duplex(ROOM);
    let (commands, to_write) = mpsc::channel(8);
    let seen = Arc::new(Mutex::new(0));
    let startup = Startup { done: done.iter().map(|text| (*text).into()).collect(), strip_ansi: false };
    let attachment = Attachment {
        output: stream::poll_fn(move |context| pieces.poll_recv(context)).boxed(),
        input: Box::new(keyboard),
    };
    let on_done = {
        let seen = seen.clone();
        move || *seen.lock().unwrap() += 1
    };
    let (startup, to_match) = watch::channel(Some(startup));
    let session = Session::new(to_match, sinks.transcript.clone(), viewers(sinks), on_done, replay.map(Box::new));
    let task = tokio::spawn(session.run(attachment, to_write));
    Terminal { root, output, input, commands, startup, done: seen, watcher, task }
}

impl Terminal {
    async fn print(&self, text: &str) {
        self.output.send(Ok(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
    }

    /// Waits until the output was processed.
    async fn settled(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn order(&self, line: &str) -> oneshot::Receiver<io::Result<()>> {
        let (done, answer) = oneshot::channel();
        self.commands.send((line.as_bytes().to_vec(), done)).await.ok().unwrap();
        answer
    }

    fn done(&self) -> u32 {
        *self.done.lock().unwrap()
    }

    fn watched(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.watcher.try_recv())
            .flat_map(|event| match &event.kind {
                EventKind::Console(output) => output.lines().map(|(_, line)| line).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn transcript(&self) -> String {
        std::fs::read_to_string(self.root.path().join("logs").join(TRANSCRIPT_FILE)).unwrap_or_default()
    }

    /// Ends the output, and waits until everything is written.
    async fn end(self) -> String {
        drop(self.output);
        self.task.await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::fs::read_to_string(self.root.path().join("logs").join(TRANSCRIPT_FILE)).unwrap_or_default()
    }
}

fn log_of(pieces: Vec<Bytes>, every: Duration) -> stream::BoxStream<'static, Piece> {
    stream::iter(pieces)
        .then(move |piece| async move {
            tokio::time::sleep(every).await;
            Ok(piece)
        })
        .boxed()
}

#[tokio::test(start_paused = true)]
async fn the_start_up_finishes_once() {
    let mut terminal = terminal(&["ready"], None).await;
    terminal.print("booting\r\nSer").await;
    terminal.settled().await;
    assert_eq!(terminal.done(), 0);
    terminal.print("ver is ready\r\nready\r\n").await;
    terminal.print("ready \ragain\r\n").await;
    terminal.settled().await;
    assert_eq!(terminal.done(), 1);
    assert_eq!(terminal.watched(), ["booting", "Server is ready", "ready", "ready\r\nagain"]);
    assert_eq!(terminal.end().await, "booting\nServer is ready\nready\nready \ragain\n");
}

#[tokio::test(start_paused = true)]
async fn a_changed_start_up_is_matched_with_later_lines() {
    let terminal = terminal(&["ready"], None).await;
    terminal.print("up and running\r\n").await;
    terminal.settled().await;
    let startup = Startup { done: vec!["running".into()], strip_ansi: false };
    terminal.startup.send_replace(Some(startup));
    terminal.settled().await;
    assert_eq!(terminal.done(), 0, "what was printed before is not matched again");
    terminal.print("still running\r\n").await;
    terminal.settled().await;
    assert_eq!(terminal.done(), 1);
}

#[tokio::test(start_paused = true)]
async fn output_is_read_while_the_server_does_not_read_its_input() {
    let mut terminal = terminal(&[], None).await;
    let mut first = terminal.order(&"x".repeat(ROOM + 1)).await;
    let given_up = terminal.order("second\n").await;
    drop(given_up);
    let mut third = terminal.order("third\n").await;
    for number in 0..1000 {
        terminal.print(&format!("{number}\r\n")).await;
    }
    assert!(first.try_recv().is_err(), "not typed yet");

    let mut typed = vec![0; ROOM + 1 + "third\n".len()];
    terminal.input.read_exact(&mut typed).await.unwrap();
    assert!(typed.ends_with(b"xthird\n"), "a command without a waiting caller is skipped");
    terminal.settled().await;
    assert!(matches!(first.try_recv(), Ok(Ok(()))));
    assert!(matches!(third.try_recv(), Ok(Ok(()))));
    assert_eq!(terminal.end().await.lines().count(), 1000);
}

#[tokio::test]
async fn endless_commands_do_not_block_the_output() {
    const TYPED: usize = 10_000;
    let (commands, to_write) = mpsc::channel(TYPED);
    // No caller gives up, so each line is written.
    let mut answers = Vec::new();
    for _ in 0..TYPED {
        let (done, answer) = oneshot::channel();
        commands.try_send((b"a\n".to_vec(), done)).ok().unwrap();
        answers.push(answer);
    }
    let (output, mut pieces) = mpsc::channel(1);
    output.try_send(Ok(Bytes::from_static(b"ready\r\n"))).unwrap();
    drop(output);
    let startup = Startup { done: vec!["ready".into()], strip_ansi: false };
    let left = Arc::new(Mutex::new(None));
    let attachment = Attachment {
        output: stream::poll_fn(move |context| pieces.poll_recv(context)).boxed(),
        input: Box::new(tokio::io::sink()),
    };
    let on_done = {
        let left = left.clone();
        move || *left.lock().unwrap() = Some(commands.max_capacity() - commands.capacity())
    };
    let (_startup, to_match) = watch::channel(Some(startup));
    let sinks = sinks(&TempDir::new().unwrap()).await;
    Session::new(to_match, sinks.transcript.clone(), viewers(sinks), on_done, None).run(attachment, to_write).await;
    let left = left.lock().unwrap().unwrap();
    // The task yields to the output after tokio's budget for one poll, or for a few where chance favours the commands.
    assert!(left > TYPED / 2, "{left} of {TYPED} commands are left to write");
}

#[tokio::test(start_paused = true)]
async fn a_broken_input_is_an_error_of_the_command() {
    let Terminal { output, input, commands, task, .. } = terminal(&[], None).await;
    drop(input);
    let (done, answer) = oneshot::channel();
    commands.send((b"x\n".to_vec(), done)).await.ok().unwrap();
    assert_eq!(answer.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(!task.is_finished());
    drop(output);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broken_output_ends_the_attachment_and_keeps_the_unfinished_line() {
    let terminal = terminal(&[], None).await;
    terminal.print("whole\r\nhal").await;
    let error = RuntimeError::new(ErrorKind::Unavailable, "reading", "reset");
    terminal.output.send(Err(error)).await.unwrap();
    assert_eq!(terminal.end().await, "whole\nhal");
}

fn replay(log: Vec<Bytes>, every: Duration, anchor: &[&str]) -> Replay {
    let mut replay = replay_of(&FakeEngine::default(), "one", anchor);
    replay.set_log(log_of(log, every));
    replay
}

fn replay_of(engine: &FakeEngine, container: &str, anchor: &[&str]) -> Replay {
    let anchor = anchor.iter().map(|line| crate::console::transcript::line_hash(line.as_bytes())).collect();
    let runtime = Arc::new(FakeRuntime::faultless(engine.clone(), crate::testing::test_host()));
    Replay::new(runtime, container.into(), LogPart::All, anchor, Arc::new(Semaphore::new(1)))
}

#[tokio::test(start_paused = true)]
async fn the_log_precedes_the_output_without_duplicates() {
    let log = vec!["old\r\nhad\r\nmissed\r\nrea".into(), "dy\r\nin both\r\nhalf a ".into()];
    let replay = replay(log, Duration::from_secs(1), &["old", "had"]);
    let mut terminal = terminal(&["ready"], Some(replay)).await;
    terminal.print("both\r\nhalf a ").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(terminal.done(), 0);
    assert!(terminal.watched().is_empty(), "the log is not read yet");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(terminal.done(), 1);
    terminal.print("line\r\nready\r\n").await;
    terminal.settled().await;
    assert_eq!(terminal.done(), 1);
    assert_eq!(terminal.watched(), ["missed", "ready", "in both", "half a line", "ready"]);
    assert_eq!(terminal.end().await, "missed\nready\nin both\nhalf a line\nready\n");
}

#[tokio::test(start_paused = true)]
async fn the_log_is_read_to_its_end_after_the_end_of_the_container() {
    let replay = replay(vec!["a\r\n".into(), "ready\r\n".into()], Duration::from_secs(1), &[]);
    let terminal = terminal(&["ready"], Some(replay)).await;
    let done = terminal.done.clone();
    assert_eq!(terminal.end().await, "a\nready\n");
    assert_eq!(*done.lock().unwrap(), 1);
}

/// The engine has rotated away the output from before the attachment, including the end of the start-up.
#[tokio::test(start_paused = true)]
async fn a_rotated_log_ends_the_start_up() {
    for (log, done) in [("much later\r\n", 1), ("starting\r\nlater\r\n", 0)] {
        let replay = replay(vec![log.into()], Duration::from_secs(1), &["booting", "starting"]);
        let terminal = terminal(&["ready"], Some(replay)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(terminal.done(), done, "{log:?}");
        assert!(terminal.end().await.ends_with("later\n"));
    }
}

/// The engine was unreachable for a moment.
#[tokio::test(start_paused = true)]
async fn a_broken_log_is_read_again() {
    let broken = RuntimeError::new(ErrorKind::Unavailable, "reading", "reset");
    let first = stream::iter([Ok("old\r\nhad\r\nmis".into()), Err(broken)]).boxed();
    let engine = FakeEngine::default();
    let container = engine.create_foreign("one").unwrap();
    engine.choose_programs(|_| {
        let prints = |program: Program, line: &str| program.and_then(Duration::ZERO, Act::Print(line.into()));
        ["old", "had", "missed", "ready"].into_iter().fold(Program::idle(), prints)
    });
    assert!(engine.start_outside("one"));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut replay = replay_of(&engine, &container, &["old", "had"]);
    replay.set_log(first);
    let mut terminal = terminal(&["ready"], Some(replay)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(terminal.done(), 1);
    assert_eq!(terminal.watched(), ["missed", "ready"]);
}

/// A log driver may keep no log.
#[tokio::test(start_paused = true)]
async fn an_unreadable_log_ends_the_start_up() {
    let replay = replay_of(&FakeEngine::default(), "gone", &[]);
    let terminal = terminal(&["ready"], Some(replay)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(terminal.done(), 0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(terminal.done(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_output_does_not_wait_for_the_log() {
    let replay = replay(vec!["a\r\n".into(), "ready\r\n".into()], Duration::from_secs(5), &[]);
    let terminal = terminal(&["ready"], Some(replay)).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    for _ in 0..1000 {
        terminal.print(&format!("{}\r\n", "x".repeat(98))).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(terminal.done(), 0);
    let text = terminal.transcript();
    assert!(text.starts_with("a\nxxx"), "{}", &text[..20]);
    assert_eq!(text.lines().count(), 1001);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(terminal.done(), 1, "the log is matched nevertheless");
    assert_eq!(terminal.end().await.lines().count(), 1001);
}

#[tokio::test(start_paused = true)]
async fn an_endless_log_times_out() {
    let replay = replay(vec!["tick\r\n".into(); 1000], Duration::from_secs(1), &[]);
    let mut terminal = terminal(&["ready"], Some(replay)).await;
    terminal.print("ready\r\n").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(terminal.done(), 1);
    assert_eq!(terminal.watched().last().unwrap(), "ready");
}

#[tokio::test]
async fn an_attachment_is_small() {
    let attachment = Attachment { output: stream::empty().boxed(), input: Box::new(tokio::io::sink()) };
    let sinks = sinks(&TempDir::new().unwrap()).await;
    let session = Session::new(watch::channel(None).1, sinks.transcript.clone(), viewers(sinks), || {}, None);
    let size = std::mem::size_of_val(&session.run(attachment, mpsc::channel(1).1));
    assert!(size <= 1024, "{size} bytes");
}
