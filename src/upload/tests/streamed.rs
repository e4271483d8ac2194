//! Archives that are sent while they are made.

use std::io::Write;

use super::*;

/// Writes pieces in a blocking thread while the upload runs.
async fn stream(
    fixture: &Fixture,
    pieces: Vec<Vec<u8>>,
    finish: bool,
) -> (Result<Vec<Part>, UploadError>, std::io::Result<u64>) {
    let uploads = uploads(None);
    let size = fixture.content.len() as u64;
    let (mut sink, upload) = uploads.streamed(&fixture.panel, BACKUP, size, fixture.folder.path()).await.unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        for piece in pieces {
            sink.write_all(&piece)?;
        }
        if finish { sink.finish() } else { Ok(0) }
    });
    let progress = Progress::new();
    let (parts, written) = tokio::join!(upload.run(&progress), writer);
    (parts, written.unwrap())
}

fn names(fixture: &Fixture) -> Vec<String> {
    let entries = std::fs::read_dir(fixture.folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn parts_are_filled_one_by_one() {
    let cases = [(250_000, 33_333), (200_000, 50_000), (100_000, 100_000), (99_999, 7_000), (300_000, 300_000)];
    let cases = cases.map(async |(size, piece)| {
        let fixture = Fixture::new(size, |part, attempt| match (part, attempt) {
            (1, 1) => Act::Cut(5_000),
            _ => Act::Accept,
        })
        .await;
        let pieces = fixture.content.chunks(piece).map(<[u8]>::to_vec).collect();
        let (parts, written) = stream(&fixture, pieces, true).await;
        assert_eq!(written.unwrap(), size as u64);
        fixture.check(&parts.unwrap());
        assert_eq!(names(&fixture), ["b.tar.gz"], "no file is left");
        assert_eq!(fixture.panel.lock().backups[&BACKUP].uploads, [size as u64]);
    });
    join_all(cases).await;
}

#[tokio::test]
async fn less_than_announced_uses_fewer_links() {
    let fixture = Fixture::new(450_000, |_, _| Act::Accept).await;
    let (parts, written) = stream(&fixture, vec![vec![5; 120_000]], true).await;
    assert_eq!(written.unwrap(), 120_000);
    assert_eq!(fixture.store.object(&parts.unwrap()), vec![5; 120_000]);
    // S3 wants a part even for nothing.
    let (parts, written) = stream(&fixture, Vec::new(), true).await;
    assert_eq!((written.unwrap(), parts.unwrap().len()), (0, 1));
}

#[tokio::test]
async fn more_than_announced_is_an_error() {
    let fixture = Fixture::new(50_000, |_, _| Act::Accept).await;
    let (parts, written) = stream(&fixture, vec![vec![5; 100_000]; 5], true).await;
    assert!(matches!(parts, Err(UploadError::TooLong { bytes: 50_000 })), "{parts:?}");
    assert!(written.is_err());
}

#[tokio::test]
async fn either_side_that_ends_ends_the_other() {
    let fixture = Fixture::new(450_000, |part, _| match part {
        2 => Act::Status(404, "NoSuchUpload"),
        _ => Act::Accept,
    })
    .await;
    let (parts, written) = stream(&fixture, vec![vec![5; 100_000]; 4], true).await;
    assert!(matches!(parts, Err(UploadError::Rejected { part: 2, .. })), "{parts:?}");
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    let (parts, written) = stream(&fixture, vec![vec![5; 50_000]], false).await;
    assert!(matches!(parts, Err(UploadError::File { .. })), "{parts:?}");
    written.unwrap();
}
