//! What containers print, and what is typed.

use alula::runtime::{ErrorKind, LogPart, RuntimeError};
use tokio::io::AsyncWriteExt;

use crate::bench::{Bench, Routine, Subject, read_all, read_until};

pub async fn an_attachment_shows_output_and_takes_input(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.create(bench).await;
    let mut terminal = bench.runtime().attach(&id).await.unwrap();
    bench.runtime().start(&id).await.unwrap();
    read_until(&mut terminal.output, &["ready\r\n"]).await;
    for word in ["one", "two"] {
        terminal.input.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        terminal.input.flush().await.unwrap();
        // What is typed is echoed by the terminal, then answered.
        let (echo, answer) = (format!("{word}\r\n"), format!("got {word}\r\n"));
        let read = read_until(&mut terminal.output, &[&answer]).await;
        assert!(read.starts_with(&echo), "{read:?}");
    }
    terminal.input.write_all(b"quit\n").await.unwrap();
    terminal.input.flush().await.unwrap();
    read_all(terminal.output).await;
    let facts = subject.ended(bench).await;
    assert_eq!(facts.state, alula::model::ContainerState::Exited { code: 5, oom_killed: false });
}

pub async fn two_attachments_see_the_same(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.start(bench).await;
    subject.printed(bench, "ready").await;
    let mut one = bench.runtime().attach(&id).await.unwrap();
    let mut two = bench.runtime().attach(&id).await.unwrap();
    one.input.write_all(b"one\n").await.unwrap();
    two.input.write_all(b"two\n").await.unwrap();
    for output in [&mut one.output, &mut two.output] {
        read_until(output, &["got one", "got two"]).await;
    }
}

pub async fn output_ends_with_the_container(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::EndsWithThree);
    let id = subject.create(bench).await;
    let terminal = bench.runtime().attach(&id).await.unwrap();
    bench.runtime().start(&id).await.unwrap();
    assert_eq!(read_all(terminal.output).await, "first\r\nsecond\r\nthird\r\n");
}

pub async fn output_ends_with_its_removal(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.start(bench).await;
    subject.printed(bench, "ready").await;
    let terminal = bench.runtime().attach(&id).await.unwrap();
    let log = bench.runtime().logs(&id, LogPart::Follow).await.unwrap();
    bench.runtime().remove(&id).await.unwrap();
    read_all(terminal.output).await;
    assert_eq!(read_all(log).await, "ready\r\n");
}

pub async fn logs_are_read_whole_or_in_part(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::EarlyAndLate);
    let id = subject.start(bench).await;
    subject.printed(bench, "early").await;
    let read = async |part| read_all(bench.runtime().logs(&id, part).await.unwrap()).await;
    assert_eq!(read(LogPart::All).await, "early\r\n");
    subject.printed(bench, "late").await;
    assert_eq!(read(LogPart::All).await, "early\r\nlate\r\n");
    assert_eq!(read(LogPart::Tail(1)).await, "late\r\n");
    assert_eq!(read(LogPart::Tail(2)).await, "early\r\nlate\r\n");
    assert_eq!(read(LogPart::Tail(100)).await, "early\r\nlate\r\n");
    assert_eq!(read(LogPart::Tail(0)).await, "");
}

pub async fn logs_follow_until_the_end(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::EarlyThenEnds);
    let id = subject.start(bench).await;
    subject.printed(bench, "early").await;
    let log = bench.runtime().logs(&id, LogPart::Follow).await.unwrap();
    assert_eq!(read_all(log).await, "early\r\nlate\r\n");
    assert!(!subject.ended(bench).await.running());
}

pub async fn logs_of_an_ended_container_stay(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::EndsWithThree);
    let id = subject.start(bench).await;
    subject.ended(bench).await;
    for part in [LogPart::All, LogPart::Follow, LogPart::Tail(3)] {
        let log = bench.runtime().logs(&id, part).await.unwrap();
        assert_eq!(read_all(log).await, "first\r\nsecond\r\nthird\r\n", "{part:?}");
    }
}

pub async fn nothing_is_read_from_what_is_not_there(bench: &dyn Bench) {
    let missing = |error: Option<RuntimeError>| error.is_some_and(|error| error.kind == ErrorKind::NotFound);
    assert!(missing(bench.runtime().attach("no-such-container").await.err()));
    for part in [LogPart::All, LogPart::Follow] {
        let error = match bench.runtime().logs("no-such-container", part).await {
            Err(error) => Some(error),
            Ok(mut stream) => futures_util::StreamExt::next(&mut stream).await.and_then(Result::err),
        };
        assert!(missing(error));
    }
}
