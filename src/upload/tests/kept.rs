//! What an upload continues with after a crash, and when links expire.

use super::*;
use crate::model::Timestamp;

/// Uploads until the store has answered so many requests, then drops the upload, as a crash does.
async fn crash_after(fixture: &Fixture, answered: usize) {
    let (uploads, archive, progress) = (uploads(None), fixture.archive(), Progress::new());
    let upload = uploads.upload(&fixture.panel, BACKUP, &archive, &progress);
    tokio::select! {
        result = upload => panic!("{result:?}"),
        () = fixture.store.wait(|state| state.answered() >= answered && state.is_held()) => {}
    }
}

#[tokio::test]
async fn a_restart_sends_the_missing_parts_with_the_same_links() {
    let fixture = Fixture::new(450_000, |part, attempt| match (part, attempt) {
        (3 | 4, 1) => Act::Hold,
        _ => Act::Accept,
    })
    .await;
    crash_after(&fixture, 2).await;
    // And again, one part later.
    crash_after(&fixture, 3).await;
    let progress = Progress::new();
    let parts = uploads(None).upload(&fixture.panel, BACKUP, &fixture.archive(), &progress).await.unwrap();
    fixture.check(&parts);
    assert_eq!((1..=5).map(|part| fixture.store.attempts(part)).collect::<Vec<_>>(), [1, 1, 2, 2, 1]);
    assert_eq!(fixture.rounds(), 1, "the multipart upload is the same");
    assert_eq!(progress.done(), 450_000);
}

#[tokio::test]
async fn a_torn_journal_costs_one_part() {
    let fixture = Fixture::new(250_000, |_, _| Act::Accept).await;
    let parts = fixture.upload().await.unwrap();
    let path = journal_path(&fixture.archive());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    assert_eq!(fixture.upload().await.unwrap(), parts);
    assert_eq!((fixture.store.attempts(2), fixture.store.attempts(3), fixture.rounds()), (1, 2, 1));
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[tokio::test]
async fn another_archive_or_a_damaged_first_line_begins_again() {
    let fixture = Fixture::new(250_000, |_, _| Act::Accept).await;
    fixture.upload().await.unwrap();
    std::fs::write(journal_path(&fixture.archive()), "damaged\n").unwrap();
    fixture.check(&fixture.upload().await.unwrap());
    assert_eq!((fixture.store.attempts(1), fixture.rounds()), (2, 2));
}

#[tokio::test]
async fn expired_links_are_replaced_and_all_parts_are_sent_again() {
    // The store is away until the first links have expired.
    let fixture = Fixture::new(250_000, |part, _| if part == 2 { Act::Away } else { Act::Accept }).await;
    fixture.links(1, None);
    let progress = Progress::new();
    let (uploads, archive) = (uploads(None), fixture.archive());
    let upload = uploads.upload(&fixture.panel, BACKUP, &archive, &progress);
    let back = async {
        fixture.store.wait(|state| state.attempts(2) >= 1).await;
        fixture.links(3600, None);
        fixture.store.wait(|state| state.attempts(1) == 2).await;
        fixture.store.come_back();
    };
    let (parts, ()) = tokio::join!(upload, back);
    fixture.check(&parts.unwrap());
    assert_eq!((fixture.store.attempts(1), fixture.rounds()), (2, 2));
    assert_eq!(progress.done(), 250_000);
}

/// Changes times and rounds in the journal.
fn age(fixture: &Fixture, fetched: i64, expires: i64, round: u32) {
    let path = journal_path(&fixture.archive());
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let mut first: serde_json::Value = serde_json::from_str(first).unwrap();
    let now = Clock::System.now().as_millis();
    let time = |seconds: i64| Timestamp::from_millis(now + seconds * 1000).to_string();
    first["fetched"] = time(fetched).into();
    first["expires"] = time(expires).into();
    first["round"] = round.into();
    std::fs::write(path, format!("{first}\n{rest}")).unwrap();
}

#[tokio::test]
async fn links_of_an_earlier_day_are_replaced() {
    let fixture = Fixture::new(250_000, |part, attempt| match (part, attempt) {
        (2, 1) => Act::Hold,
        _ => Act::Accept,
    })
    .await;
    crash_after(&fixture, 1).await;
    age(&fixture, -90_000, -86_400, 1);
    fixture.check(&fixture.upload().await.unwrap());
    assert_eq!((1..=3).map(|part| fixture.store.attempts(part)).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(fixture.rounds(), 2);
}

#[tokio::test]
async fn a_403_on_links_of_some_age_means_that_they_have_expired() {
    let fixture = Fixture::new(250_000, |part, attempt| match (part, attempt) {
        (2, 1) => Act::Hold,
        (2, 2) => Act::Status(403, "AccessDenied"),
        _ => Act::Accept,
    })
    .await;
    crash_after(&fixture, 1).await;
    age(&fixture, -120, 600, 2);
    fixture.check(&fixture.upload().await.unwrap());
    assert_eq!((fixture.store.attempts(1), fixture.store.attempts(2), fixture.rounds()), (2, 3, 2));
}

#[tokio::test]
async fn a_403_on_new_links_is_believed_once() {
    for (rejected, rounds) in [(1, 2), (u32::MAX, 2)] {
        let fixture = Fixture::new(250_000, move |part, attempt| match part {
            2 if attempt <= rejected => Act::Status(403, "AccessDenied"),
            _ => Act::Accept,
        })
        .await;
        match fixture.upload().await {
            Ok(parts) => fixture.check(&parts),
            Err(error) => assert_eq!(error.to_string(), "the store rejected part 2 with 403 Forbidden (AccessDenied)"),
        }
        assert_eq!((fixture.rounds(), fixture.store.attempts(1), fixture.store.attempts(2)), (rounds, 2, 2));
    }
}

#[tokio::test]
async fn an_upload_that_never_fits_into_the_life_of_links_ends() {
    let fixture = Fixture::new(250_000, |part, attempt| match (part, attempt) {
        (2, 1) => Act::Hold,
        _ => Act::Accept,
    })
    .await;
    crash_after(&fixture, 1).await;
    age(&fixture, -3700, -100, 6);
    let error = fixture.upload().await.unwrap_err();
    assert!(matches!(error, UploadError::TooSlow { rounds: 6, .. }), "{error}");
    assert_eq!(fixture.rounds(), 1);
}
