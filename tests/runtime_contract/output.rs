//! What containers print, and what is typed.

use alula::model::ContainerState;
use alula::runtime::{ErrorKind, LogPart, RuntimeError};
use tokio::io::AsyncWriteExt;

use crate::harness::{Harness, Subject, TestProgram, read_all, read_until};

pub async fn an_attachment_has_output_and_input(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.create(harness).await;
    let mut terminal = harness.runtime().attach(&id).await.unwrap();
    harness.runtime().start(&id).await.unwrap();
    read_until(&mut terminal.output, &["ready\r\n"]).await;
    for line in ["one", "two"] {
        terminal.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        terminal.input.flush().await.unwrap();
        // What is typed is echoed by the terminal, then answered.
        let (echo, answer) = (format!("{line}\r\n"), format!("got {line}\r\n"));
        let read = read_until(&mut terminal.output, &[&answer]).await;
        assert!(read.starts_with(&echo), "{read:?}");
    }
    terminal.input.write_all(b"quit\n").await.unwrap();
    terminal.input.flush().await.unwrap();
    read_all(terminal.output).await;
    let status = subject.ended(harness).await;
    assert_eq!(status.state, alula::model::ContainerState::Exited { code: 5, oom_killed: false });
}

pub async fn two_attachments_see_the_same(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    subject.printed(harness, "ready").await;
    let mut one = harness.runtime().attach(&id).await.unwrap();
    let mut two = harness.runtime().attach(&id).await.unwrap();
    one.input.write_all(b"one\n").await.unwrap();
    two.input.write_all(b"two\n").await.unwrap();
    for output in [&mut one.output, &mut two.output] {
        read_until(output, &["got one", "got two"]).await;
    }
}

pub async fn output_ends_with_the_container(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EndsWithThree);
    let id = subject.create(harness).await;
    let terminal = harness.runtime().attach(&id).await.unwrap();
    harness.runtime().start(&id).await.unwrap();
    assert_eq!(read_all(terminal.output).await, "first\r\nsecond\r\nthird\r\n");
}

/// The end of the output is the first sign of an end, and the terminal is opened again to see.
pub async fn an_attachment_leaves_an_ended_container_as_it_is(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EndsWithThree);
    let id = subject.create(harness).await;
    let terminal = harness.runtime().attach(&id).await.unwrap();
    harness.runtime().start(&id).await.unwrap();
    read_all(terminal.output).await;
    for _ in 0..2 {
        let again = harness.runtime().attach(&id).await.unwrap();
        assert_eq!(read_all(again.output).await, "");
        let status = subject.ended(harness).await;
        assert_eq!(status.state, ContainerState::Exited { code: 3, oom_killed: false });
    }
}

pub async fn output_ends_with_its_removal(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    subject.printed(harness, "ready").await;
    let terminal = harness.runtime().attach(&id).await.unwrap();
    let log = harness.runtime().logs(&id, LogPart::Follow).await.unwrap();
    harness.runtime().remove(&id).await.unwrap();
    read_all(terminal.output).await;
    assert_eq!(read_all(log).await, "ready\r\n");
}

pub async fn logs_are_read_completely_or_in_part(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EarlyAndLate);
    let id = subject.start(harness).await;
    subject.printed(harness, "early").await;
    let read = async |part| read_all(harness.runtime().logs(&id, part).await.unwrap()).await;
    assert_eq!(read(LogPart::All).await, "early\r\n");
    subject.printed(harness, "late").await;
    assert_eq!(read(LogPart::All).await, "early\r\nlate\r\n");
    assert_eq!(read(LogPart::Tail(1)).await, "late\r\n");
    assert_eq!(read(LogPart::Tail(2)).await, "early\r\nlate\r\n");
    assert_eq!(read(LogPart::Tail(100)).await, "early\r\nlate\r\n");
    assert_eq!(read(LogPart::Tail(0)).await, "");
}

pub async fn logs_follow_until_the_end(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EarlyThenEnds);
    let id = subject.start(harness).await;
    subject.printed(harness, "early").await;
    let log = harness.runtime().logs(&id, LogPart::Follow).await.unwrap();
    assert_eq!(read_all(log).await, "early\r\nlate\r\n");
    assert!(!subject.ended(harness).await.running());
}

pub async fn logs_of_an_ended_container_stay(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EndsWithThree);
    let id = subject.start(harness).await;
    subject.ended(harness).await;
    for part in [LogPart::All, LogPart::Follow, LogPart::Tail(3)] {
        let log = harness.runtime().logs(&id, part).await.unwrap();
        assert_eq!(read_all(log).await, "first\r\nsecond\r\nthird\r\n", "{part:?}");
    }
}

pub async fn reading_from_a_missing_container_fails(harness: &dyn Harness) {
    let missing = |error: Option<RuntimeError>| error.is_some_and(|error| error.kind == ErrorKind::NotFound);
    assert!(missing(harness.runtime().attach("no-such-container").await.err()));
    for part in [LogPart::All, LogPart::Follow] {
        let error = match harness.runtime().logs("no-such-container", part).await {
            Err(error) => Some(error),
            Ok(mut stream) => futures_util::StreamExt::next(&mut stream).await.and_then(Result::err),
        };
        assert!(missing(error));
    }
}
