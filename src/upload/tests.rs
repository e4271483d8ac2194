//! Uploads to a store of the test on the loopback address, which fails as it is asked to.

mod kept;
mod store;
mod streamed;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use store::{Act, Store};
use uuid::Uuid;

use super::*;
use crate::clock::Clock;
use crate::panel::{PanelError, Part, UploadLinks};
use crate::progress::Progress;
use crate::rate::Rate;
use crate::tasks::Blocking;
use crate::testing::{PanelBackup, TestPanel};

const BACKUP: Uuid = Uuid::from_u128(7);
const PART: u64 = 100_000;

/// An archive, the panel, and the store.
struct Fixture {
    folder: tempfile::TempDir,
    panel: TestPanel,
    store: Store,
    content: Vec<u8>,
}

impl Fixture {
    /// An archive of so many bytes, in parts of [`PART`].
    async fn new(size: usize, act: impl Fn(u32, u32) -> Act + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..size).map(|at| (at / 7 + at / PART as usize) as u8).collect();
        let fixture = Self { folder, panel: TestPanel::default(), store: Store::start(act).await, content };
        std::fs::write(fixture.archive(), &fixture.content).unwrap();
        fixture.links(3600, None);
        fixture
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("b.tar.gz")
    }

    /// Sets the links that the panel answers with.
    fn links(&self, life: u32, max_concurrent: Option<u32>) {
        let parts = self.content.len().div_ceil(PART as usize).max(1) + 2;
        let link = |part| format!("{}/{part}?X-Amz-Expires={life}&X-Amz-Signature=secret", self.store.url());
        let links = UploadLinks { parts: (1..=parts).map(link).collect(), part_size: PART, max_concurrent };
        self.panel.lock().backups.entry(BACKUP).or_default().links = Some(links);
    }

    /// How often links were requested.
    fn rounds(&self) -> usize {
        self.panel.lock().backups[&BACKUP].uploads.len()
    }

    async fn upload(&self) -> Result<Vec<Part>, UploadError> {
        uploads(None).upload(&self.panel, BACKUP, &self.archive(), &Progress::new()).await
    }

    /// Checks what the store has.
    fn check(&self, parts: &[Part]) {
        assert_eq!(parts.len(), self.content.len().div_ceil(PART as usize).max(1));
        assert!((1..).zip(parts).all(|(number, part)| part.part_number == number), "{parts:?}");
        assert!(self.store.object(parts) == self.content, "the store has other bytes");
    }
}

fn uploads(limit: Option<u64>) -> Uploads {
    let limits = Limits {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        answer: Duration::from_millis(300),
    };
    Uploads::new(Clock::System, Blocking::Pool, Arc::new(Rate::new(limit)), false).with_limits(limits)
}

#[tokio::test]
async fn parts_are_sent_in_order_as_wings_does() {
    let fixture = Fixture::new(250_000, |_, _| Act::Accept).await;
    let progress = Progress::new();
    let parts = uploads(None).upload(&fixture.panel, BACKUP, &fixture.archive(), &progress).await.unwrap();
    fixture.check(&parts);
    assert_eq!((progress.done(), progress.total()), (250_000, 250_000));
    assert_eq!(fixture.panel.lock().backups[&BACKUP].uploads, [250_000]);
    let requests = fixture.store.requests();
    assert_eq!(requests.len(), 3);
    for ((number, length), request) in [(1, 100_000), (2, 100_000), (3, 50_000)].into_iter().zip(&requests) {
        assert!(request.starts_with(&format!("put /{number}?x-amz-expires=3600&x-amz-signature=secret http/1.1")));
        assert!(request.contains(&format!("\r\ncontent-length: {length}\r\n")), "{request}");
        assert!(request.contains("\r\ncontent-type: application/x-gzip\r\n"), "{request}");
        assert!(!request.contains("transfer-encoding"), "{request}");
    }
    assert_eq!(fixture.store.max_at_once(), 1);
    // A journal without missing parts is an answer by itself.
    assert_eq!(fixture.upload().await.unwrap(), parts);
    assert_eq!((fixture.store.requests().len(), fixture.rounds()), (3, 1));
}

#[tokio::test]
async fn parts_are_sent_at_once_as_the_panel_allows() {
    // Each group of three is answered when all of them are there.
    let fixture = Fixture::new(600_000, |_, _| Act::Meet).await;
    fixture.links(3600, Some(3));
    fixture.check(&fixture.upload().await.unwrap());
    assert_eq!(fixture.store.max_at_once(), 3);
}

#[tokio::test]
async fn what_may_succeed_later_is_tried_again_from_the_first_byte() {
    let cases = [
        ("503", Act::Status(503, "SlowDown")),
        ("500", Act::Status(500, "InternalError")),
        ("429", Act::Status(429, "")),
        ("400", Act::Status(400, "RequestTimeout")),
        ("cut", Act::Cut(30_000)),
        ("cut at once", Act::Cut(0)),
        ("silent", Act::Silent),
    ];
    let cases = cases.map(async |(name, act)| {
        let failing = move |part, attempt| if (part, attempt) == (2, 1) { act.clone() } else { Act::Accept };
        let fixture = Fixture::new(250_000, failing).await;
        let progress = Progress::new();
        let parts = uploads(None).upload(&fixture.panel, BACKUP, &fixture.archive(), &progress).await.unwrap();
        fixture.check(&parts);
        assert_eq!(fixture.store.attempts(2), 2, "{name}");
        assert_eq!(progress.done(), 250_000, "{name}: bytes that are sent again do not count again");
        assert_eq!(fixture.rounds(), 1, "{name}");
    });
    join_all(cases).await;
}

/// An archive of one part that no socket buffers.
async fn large(act: Act) -> Fixture {
    let failing = move |_, attempt| if attempt == 1 { act.clone() } else { Act::Accept };
    let fixture = Fixture::new(1, failing).await;
    std::fs::File::options().write(true).open(fixture.archive()).unwrap().set_len(64 << 20).unwrap();
    if let Some(links) = &mut fixture.panel.lock().backups.get_mut(&BACKUP).unwrap().links {
        links.part_size = 64 << 20;
    }
    fixture
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_is_no_success() {
    let fixture = large(Act::Early).await;
    let parts = fixture.upload().await.unwrap();
    assert_eq!(fixture.store.attempts(1), 2);
    assert_eq!(fixture.store.object(&parts).len(), 64 << 20);
}

#[tokio::test]
async fn a_store_that_takes_no_bytes_is_tried_again() {
    let fixture = large(Act::Stall(100_000)).await;
    let parts = fixture.upload().await.unwrap();
    assert_eq!(fixture.store.attempts(1), 2);
    assert_eq!(fixture.store.object(&parts).len(), 64 << 20);
}

#[tokio::test]
async fn other_answers_are_final() {
    for (act, message) in [
        (Act::Status(400, "InvalidArgument"), "the store rejected part 2 with 400 Bad Request (InvalidArgument)"),
        (Act::Status(404, "NoSuchUpload"), "the store rejected part 2 with 404 Not Found (NoSuchUpload)"),
        (Act::Status(204, ""), "the store rejected part 2 with 204 No Content (no reason)"),
        (Act::Status(307, ""), "the store rejected part 2 with 307 Temporary Redirect (no reason)"),
        (
            Act::Status(403, "SignatureDoesNotMatch"),
            "the store rejected part 2 with 403 Forbidden (SignatureDoesNotMatch)",
        ),
        (Act::NoEtag, "the store accepted part 2 without an ETag"),
    ] {
        let fixture = Fixture::new(250_000, move |part, _| if part == 2 { act.clone() } else { Act::Accept }).await;
        assert_eq!(fixture.upload().await.unwrap_err().to_string(), message);
        assert_eq!((fixture.store.attempts(2), fixture.store.attempts(3)), (1, 0));
        assert_eq!(fixture.rounds(), 1, "{message}");
    }
}

#[tokio::test]
async fn links_that_are_no_web_addresses_are_named_by_their_part() {
    let fixture = Fixture::new(5, |_, _| Act::Accept).await;
    for link in ["file:///etc/passwd", "ftp://x/?secret", "secret"] {
        if let Some(links) = &mut fixture.panel.lock().backups.get_mut(&BACKUP).unwrap().links {
            links.parts[0] = link.into();
        }
        let error = fixture.upload().await.unwrap_err();
        assert!(matches!(error, UploadError::Link { part: 1, .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        remove_journal(&journal_path(&fixture.archive())).unwrap();
    }
}

#[tokio::test]
async fn an_error_of_the_panel_is_passed_on_and_nothing_is_written() {
    let fixture = Fixture::new(5, |_, _| Act::Accept).await;
    fixture.panel.lock().backups.insert(BACKUP, PanelBackup { completed: true, ..PanelBackup::default() });
    assert!(matches!(fixture.upload().await, Err(UploadError::Links(error)) if error.is_conflict()));
    fixture.panel.lock().backups.clear();
    assert!(matches!(fixture.upload().await, Err(UploadError::Links(error)) if error.is_unknown()));
    let away = PanelError::Unreachable { call: "GET".into(), cause: "refused".into() };
    fixture.panel.fail(|_| true, away.clone());
    assert!(matches!(fixture.upload().await, Err(UploadError::Links(error)) if error == away));
    assert!(!journal_path(&fixture.archive()).exists());
    let missing = uploads(None).upload(&fixture.panel, BACKUP, Path::new("/nowhere/b.tar.gz"), &Progress::new()).await;
    assert!(matches!(missing, Err(UploadError::File { .. })));
}

#[tokio::test]
async fn an_upload_that_waits_is_cancelled() {
    let fixture = Fixture::new(250_000, |part, _| if part == 2 { Act::Hold } else { Act::Accept }).await;
    let (progress, uploads, archive) = (Progress::new(), uploads(None), fixture.archive());
    let upload = uploads.upload(&fixture.panel, BACKUP, &archive, &progress);
    let cancel = async {
        fixture.store.wait(|state| state.attempts(2) == 1).await;
        progress.cancel();
    };
    let (result, ()) = tokio::join!(upload, cancel);
    assert!(matches!(result, Err(UploadError::Cancelled)), "{result:?}");
}

#[tokio::test]
async fn an_archive_that_shrinks_is_an_error() {
    let fixture = Fixture::new(250_000, |_, _| Act::Accept).await;
    let (archive, store) = (fixture.archive(), fixture.store.clone());
    let (uploads, progress) = (uploads(Some(400_000)), Progress::new());
    let upload = uploads.upload(&fixture.panel, BACKUP, &archive, &progress);
    let shrink = async {
        store.wait(|state| state.attempts(1) == 1).await;
        std::fs::File::options().write(true).open(&archive).unwrap().set_len(120_000).unwrap();
    };
    let (result, ()) = tokio::join!(upload, shrink);
    assert!(matches!(result, Err(UploadError::File { .. })), "{result:?}");
}

#[tokio::test]
async fn the_rate_is_limited() {
    let fixture = Fixture::new(300_000, |_, _| Act::Accept).await;
    fixture.links(3600, Some(3));
    let began = std::time::Instant::now();
    let (uploads, progress) = (uploads(Some(400_000)), Progress::new());
    let parts = uploads.upload(&fixture.panel, BACKUP, &fixture.archive(), &progress).await.unwrap();
    fixture.check(&parts);
    // The last of the three parts waits for the time of the two before it.
    assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
}

#[tokio::test]
async fn uploads_run_in_tasks() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let fixture = Fixture::new(250_000, |_, _| Act::Accept).await;
    let (uploads, archive, progress) = (uploads(None), fixture.archive(), Progress::new());
    is_send(uploads.upload(&fixture.panel, BACKUP, &archive, &progress)).await.unwrap();
    let streamed = uploads.streamed(&fixture.panel, BACKUP, 5, fixture.folder.path());
    let (sink, upload) = is_send(streamed).await.unwrap();
    drop(sink);
    is_send(upload.run(&progress)).await.unwrap_err();
}

#[test]
fn statuses_are_shown() {
    let error = UploadError::Rejected { part: 1, status: StatusCode::CONFLICT, reason: "X".into() };
    assert_eq!(error.to_string(), "the store rejected part 1 with 409 Conflict (X)");
}
