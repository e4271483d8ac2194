//! SIGKILL at random instants of backups, uploads and restores: the files are the old or the new ones at every boot and the right ones
//! at the end, the panel has the result, and nothing is left over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::case::{Case, MIB, case, check_report, identity, server, unpacked, without_directories};
use crate::daemon_process::until;
use crate::object_store::{ObjectStore, etag};
use crate::panel_sim::{Fault, SimBackup};
use crate::trees::{Content, content, fill, has_marker, merged};

/// Bytes of a part of an upload.
const PART: u64 = MIB as u64;

#[tokio::test]
async fn at_random_instants_of_a_backup() {
    case("a backup", async |case| {
        fill(&case.data(), 1, 40, 4 * MIB);
        let expected = without_directories(&case.content());
        case.complete_backup().await;
        let mut kept = 1;
        while case.tally.goes_on() {
            let backup = case.new_backup(Value::Null);
            case.back_up(&backup, "wings").await;
            let mut made = None;
            for _ in 0..1 + case.tally.rng.below(2) {
                case.random_instant().await;
                case.kill();
                case.note_backup(&backup);
                let found = identity(&case.archive(&backup));
                assert!(made.is_none() || made == found, "a complete archive is not made again");
                made = made.or(found);
                case.node.boot().await;
            }
            let report = case.reported(&backup).await;
            kept += 1;
            assert!(made.is_none() || made == identity(&case.archive(&backup)), "a complete archive is not made again");
            case.check_archive(&backup, &report, &expected);
            assert_eq!(case.on_panel(&backup).reports.len(), 1);
            until("the end of the report", async || (case.known(&backup)?["reported"] == true).then_some(())).await;
            assert_eq!(case.files().len(), kept, "{:?}", case.files());
            assert_eq!(case.siblings(), Vec::<String>::new());
        }
    })
    .await;
}

/// The panel is away: the archive is complete, and stays the same until the panel has the report, which it gets once.
#[tokio::test]
async fn between_the_archive_and_its_report() {
    case("a report", async |case| {
        fill(&case.data(), 2, 6, MIB / 4);
        let expected = without_directories(&case.content());
        while case.tally.goes_on() {
            let backup = case.new_backup(Value::Null);
            let path = format!("^/backups/{backup}$");
            let fault = match case.tally.rng.below(3) {
                0 => Fault::on(&path).method("POST").held(),
                1 => Fault::on(&path).method("POST").status(500),
                _ => Fault::on(&path).method("POST").dropped(),
            };
            let away = case.node.panel.fault(fault);
            case.back_up(&backup, "wings").await;
            case.node.panel.wait("a report", |_| (away.hits() > 0).then_some(())).await;
            let made = identity(&case.archive(&backup));
            assert!(made.is_some());
            for _ in 0..2 {
                case.kill();
                case.note_backup(&backup);
                let before = away.hits();
                case.node.boot().await;
                case.node.panel.wait("a report", |_| (away.hits() > before).then_some(())).await;
                assert_eq!(identity(&case.archive(&backup)), made);
            }
            drop(away);
            let report = case.reported(&backup).await;
            case.check_archive(&backup, &report, &expected);
            assert_eq!((identity(&case.archive(&backup)), case.on_panel(&backup).reports.len()), (made, 1));
        }
    })
    .await;
}

/// The parts that the journal of an upload has.
fn journalled(case: &Case<'_>, backup: &str) -> Vec<u32> {
    let journal = fs::read_to_string(case.folder().join(format!("{backup}.upload"))).unwrap_or_default();
    let complete = journal.split_inclusive('\n').filter(|line| line.ends_with('\n')).skip(1);
    complete
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|part| part["part_number"].as_u64().or(part["partNumber"].as_u64()))
        .filter_map(|number| u32::try_from(number).ok())
        .collect()
}

#[tokio::test]
async fn at_random_instants_of_an_upload() {
    let store = ObjectStore::start();
    case("an upload", async |case| {
        fill(&case.data(), 3, 20, 4 * MIB);
        let expected = without_directories(&case.content());
        let mut first = true;
        while case.tally.goes_on() {
            let id = Uuid::new_v4().to_string();
            let links = store.links(&id, 9, PART);
            case.node.panel.with(|panel| panel.backups.push(SimBackup::new(&id, links)));
            let begun = Instant::now();
            case.back_up(&id, "s3").await;
            let (mut sent, mut asked) = (BTreeMap::new(), None);
            let rounds = if first { 0 } else { 1 + case.tally.rng.below(3) };
            for _ in 0..rounds {
                case.random_instant().await;
                case.kill();
                case.note_backup(&id);
                let complete = store.complete(&id);
                sent.extend(journalled(case, &id).into_iter().map(|number| (number, complete[&number])));
                if case.folder().join(format!("{id}.upload")).exists() {
                    asked = asked.or(Some(case.on_panel(&id).uploads));
                }
                case.node.boot().await;
            }
            let report = case.reported(&id).await;
            if std::mem::take(&mut first) {
                case.tally.takes = begun.elapsed();
            }
            let parts: Vec<Value> = report["parts"].as_array().expect("parts").clone();
            let object = store.object(&id, parts.len());
            check_report(&report, &object);
            for (at, part) in parts.iter().enumerate() {
                let from = at * PART as usize;
                let content = &object[from..object.len().min(from + PART as usize)];
                assert_eq!(part, &json!({"etag": etag(content), "part_number": at + 1}));
            }
            let complete = store.complete(&id);
            for (number, count) in sent {
                assert_eq!(complete[&number], count, "part {number} was acknowledged, and sent again");
            }
            let uploads = case.on_panel(&id).uploads;
            assert_eq!(uploads, asked.unwrap_or(uploads), "links are requested again only if they were lost");
            assert_eq!(case.on_panel(&id).reports.len(), 1);
            until("an empty folder", async || case.files().is_empty().then_some(())).await;
            until("an empty record", async || case.known(&id).is_none().then_some(())).await;
            let kept = tempfile::NamedTempFile::new().expect("a file");
            fs::write(kept.path(), &object).expect("a file");
            assert_eq!(unpacked(kept.path()), expected);
        }
    })
    .await;
}

/// Each name is the old one or the new one.
fn is_between(found: &Content, old: &Content, new: &Content) -> bool {
    let one_of = |path: &PathBuf| {
        let here = found.get(path);
        here == old.get(path) || here == new.get(path)
    };
    found.keys().chain(old.keys()).chain(new.keys()).all(one_of)
}

async fn restores(name: &'static str, truncate: bool) {
    case(name, async |case| {
        fill(&case.data(), 4, 40, 4 * MIB);
        let archived = case.content();
        let backup = case.complete_backup().await;
        let mut requested = 0;
        while case.tally.goes_on() {
            fill(&case.data(), 100 + u64::from(case.tally.kills), 30, MIB);
            let old = case.content();
            let new = if truncate { archived.clone() } else { merged(&old, &archived) };
            let before = case.on_panel(&backup).restores.len();
            assert_eq!(case.restore(&backup, truncate).await, 202);
            requested += 1;
            for _ in 0..1 + case.tally.rng.below(2) {
                case.random_instant().await;
                case.kill();
                let found = case.content();
                let ended = !case.record()["restore"]["result"].is_null();
                let moment = match () {
                    () if ended => "result in the record",
                    () if found == new => "files exchanged",
                    () if found == old && case.siblings().iter().any(|name| name == "restore") => {
                        "while it is unpacked"
                    }
                    () if found == old => "before it is unpacked",
                    () if !truncate && is_between(&found, &old, &new) => "between the files",
                    () => panic!("the files are neither the old nor the new ones: {found:#?}"),
                };
                assert!(!ended || found == new, "the end is recorded before it is true");
                case.note(moment);
                case.tally.hit(!ended);
                case.node.boot().await;
            }
            until("the report", async || (case.on_panel(&backup).restores.len() > before).then_some(())).await;
            until("its end", async || (case.record()["restore"]["reported"] == true).then_some(())).await;
            let results = case.on_panel(&backup).restores;
            assert!(results.iter().all(|result| *result), "{results:?}");
            assert!(results.len() <= requested + case.tally.kills as usize);
            let found = case.content();
            assert!(found == new, "{}", difference(&found, &new));
            assert!(!has_marker(&case.data()));
            assert_eq!(case.siblings(), ["before-restore"]);
            if truncate {
                let former = case.data().parent().expect("a parent").join(format!(".{}.before-restore/tree", case.id));
                assert_eq!(content(&former).as_ref(), Some(&old), "the former files are kept");
            }
            assert_eq!(case.record()["formerFiles"]["restore"], case.record()["restore"]["token"]);
        }
    })
    .await;
}

fn difference(found: &Content, expected: &Content) -> String {
    let paths = found.keys().chain(expected.keys()).filter(|path| found.get(*path) != expected.get(*path));
    paths.map(|path| format!("{path:?}: {:?}, not {:?}\n", found.get(path), expected.get(path))).collect()
}

#[tokio::test]
async fn at_random_instants_of_a_restore_that_removes_other_files() {
    restores("a restore that removes other files", true).await;
}

#[tokio::test]
async fn at_random_instants_of_a_restore_that_keeps_other_files() {
    restores("a restore that keeps other files", false).await;
}

/// A backup is deleted while it is made, or while it is uploaded.
#[tokio::test]
async fn a_backup_is_deleted_while_it_is_made() {
    let store = ObjectStore::start();
    case("a backup that is deleted", async |case| {
        fill(&case.data(), 5, 20, 3 * MIB);
        case.tally.takes = Duration::from_secs(3);
        while case.tally.goes_on() {
            let id = Uuid::new_v4().to_string();
            let s3 = case.tally.rng.below(2) == 0;
            let links = if s3 { store.links(&id, 9, PART) } else { Value::Null };
            case.node.panel.with(|panel| panel.backups.push(SimBackup::new(&id, links)));
            case.back_up(&id, if s3 { "s3" } else { "wings" }).await;
            case.random_instant().await;
            let moment = case.moment_of_backup(&id);
            let path = format!("/api/servers/{}/backup/{id}", case.id);
            case.note(moment);
            let deletion = tokio::spawn(case.node.calling(reqwest::Method::DELETE, &path));
            let killed = case.tally.rng.below(4) > 0;
            if killed {
                // It is answered when the archive is removed, after some milliseconds.
                let delay = case.tally.rng.below(15_000);
                tokio::time::sleep(Duration::from_micros(delay)).await;
                case.kill();
                case.tally.hit(case.known(&id).is_some() || !case.files().is_empty());
            }
            let mut deleted = deletion.await.expect("a task");
            if killed {
                case.node.boot().await;
                if deleted.is_none() {
                    deleted = Some(case.node.call(reqwest::Method::DELETE, &path).await);
                }
            }
            // One in an object store is gone from here when it is reported, and one that was deleted without an answer, too.
            let gone = deleted == Some(404) && (s3 || killed);
            assert!(deleted == Some(204) || gone, "{deleted:?}");
            let begun = Instant::now();
            until("the removal", async || (case.known(&id).is_none() && case.files().is_empty()).then_some(())).await;
            assert!(begun.elapsed() < Duration::from_secs(20));
            assert_eq!(case.siblings(), Vec::<String>::new());
        }
    })
    .await;
}

/// The backup is deleted while it is restored: the panel learns which files the server has.
#[tokio::test]
async fn a_backup_is_deleted_while_it_is_restored() {
    case("a restore whose backup is deleted", async |case| {
        while case.tally.goes_on() {
            fill(&case.data(), 6, 20, 2 * MIB);
            let archived = case.content();
            let backup = case.complete_backup().await;
            fill(&case.data(), 200 + u64::from(case.tally.kills), 20, MIB);
            let old = case.content();
            assert_eq!(case.restore(&backup, true).await, 202);
            case.random_instant().await;
            let deleted =
                case.node.call(reqwest::Method::DELETE, &format!("/api/servers/{}/backup/{backup}", case.id)).await;
            assert_eq!(deleted, 204);
            let delay = case.tally.rng.below(800);
            tokio::time::sleep(Duration::from_millis(delay)).await;
            case.kill();
            let found = case.content();
            assert!(found == old || found == archived);
            case.tally.hit(case.record()["restore"]["reported"] != true || case.known(&backup).is_some());
            case.node.boot().await;
            until("its end", async || (case.record()["restore"]["reported"] == true).then_some(())).await;
            let restored = case.record()["restore"]["result"]["succeeded"] == true;
            case.note(if restored { "restored" } else { "not restored" });
            let results = case.on_panel(&backup).restores;
            assert!(!results.is_empty() && results.iter().all(|result| *result == restored), "{results:?}");
            assert!(case.content() == if restored { archived } else { old });
            until("the removal", async || (case.known(&backup).is_none() && case.files().is_empty()).then_some(()))
                .await;
            let left = case.siblings();
            assert!(left.iter().all(|name| name == "before-restore"), "{left:?}");
        }
    })
    .await;
}

/// The server is deleted during an operation: nothing is left of it, and the backups that were complete stay.
#[tokio::test]
async fn a_server_is_deleted_during_an_operation() {
    let store = ObjectStore::start();
    case("a server that is deleted", async |case| {
        while case.tally.goes_on() {
            fill(&case.data(), 8, 20, 2 * MIB);
            let kept = case.complete_backup().await;
            let id = Uuid::new_v4().to_string();
            case.node.panel.with(|panel| panel.backups.push(SimBackup::new(&id, store.links(&id, 9, PART))));
            let operation = ["a backup", "an upload", "a restore"][case.tally.rng.below(3) as usize];
            match operation {
                "a backup" => case.back_up(&id, "wings").await,
                "an upload" => case.back_up(&id, "s3").await,
                _ => assert_eq!(case.restore(&kept, case.tally.kills % 2 == 0).await, 202),
            }
            case.random_instant().await;
            let complete = operation == "a backup" && case.known(&id).is_some_and(|known| !known["archive"].is_null());
            let deleted = case.node.call(reqwest::Method::DELETE, &format!("/api/servers/{}", case.id)).await;
            assert_eq!(deleted, 204);
            case.node.panel.remove(&case.id);
            case.note(operation);
            let folder = case.node.folder.path().join("root/servers").join(&case.id);
            if case.tally.rng.below(3) > 0 {
                let delay = case.tally.rng.below(100);
                tokio::time::sleep(Duration::from_millis(delay)).await;
                case.kill();
                case.tally.hit(folder.exists());
                case.node.boot().await;
            }
            until("the removal", async || (!folder.exists()).then_some(())).await;
            // Blocking work that goes on would bring something back.
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!folder.exists() && case.siblings().is_empty());
            let mut files = case.files();
            files.retain(|name| {
                *name != format!("{kept}.tar.gz") && !(operation == "a backup" && *name == format!("{id}.tar.gz"))
            });
            assert!(files.is_empty(), "{files:?} {complete}");
            case.id = server(case.node).await;
        }
    })
    .await;
}

/// Two restores, a delete and a start at once.
#[tokio::test]
async fn two_restores_a_delete_and_a_start_at_once() {
    case("everything at once", async |case| {
        while case.tally.goes_on() {
            if case.node.state(&case.id).await.as_deref() != Some("offline") {
                case.node.power(&case.id, "kill").await;
                case.node.wait_state(&case.id, "offline").await;
            }
            fill(&case.data(), 9, 20, 2 * MIB);
            let archived = case.content();
            let backup = case.complete_backup().await;
            fill(&case.data(), 300 + u64::from(case.tally.kills), 20, MIB);
            let old = case.content();
            let (path, power) =
                (format!("/api/servers/{}/backup/{backup}", case.id), format!("/api/servers/{}/power", case.id));
            let start = case.node.post(&power, json!({"action": "start"}));
            // At once, the delete comes before what it would interrupt.
            let delay = Duration::from_millis(case.tally.rng.below(2) * case.tally.rng.below(600));
            let delete = async {
                tokio::time::sleep(delay).await;
                case.node.call(reqwest::Method::DELETE, &path).await
            };
            let (one, other, deleted, started) = match case.tally.rng.below(2) {
                0 => {
                    let (one, other, deleted, started) =
                        tokio::join!(case.restore(&backup, true), case.restore(&backup, true), delete, start);
                    (one, other, deleted, started)
                }
                _ => {
                    let (started, deleted, other, one) =
                        tokio::join!(start, delete, case.restore(&backup, true), case.restore(&backup, true));
                    (one, other, deleted, started)
                }
            };
            assert!([one, other].iter().all(|status| [202, 404, 409].contains(status)), "{one} {other}");
            assert!(deleted == 204 && [202, 409].contains(&started), "{deleted} {started}");
            let delay = case.tally.rng.below(150);
            tokio::time::sleep(Duration::from_millis(delay)).await;
            case.kill();
            case.tally.hit(case.record()["restore"]["reported"] != true || case.known(&backup).is_some());
            case.node.boot().await;
            // Both, if the first one has failed before the second one was accepted, because the archive was gone.
            let count = [one, other].iter().filter(|status| **status == 202).count();
            let accepted = count > 0;
            if accepted {
                until("its end", async || {
                    let restore = case.record()["restore"].clone();
                    let all = restore["reported"] == true && case.record()["earlierRestores"].is_null();
                    (restore["backup"] == backup.as_str() && all).then_some(())
                })
                .await;
            }
            until("the removal", async || (case.known(&backup).is_none() && case.files().is_empty()).then_some(()))
                .await;
            let restored = accepted && case.record()["restore"]["result"]["succeeded"] == true;
            case.note(match (accepted, restored) {
                (false, _) => "rejected",
                (_, true) => "restored",
                (_, false) => "not restored",
            });
            let results = case.on_panel(&backup).restores.len();
            assert!(results >= count && (results > 0) == accepted, "{results} results of {count} restores");
            // A server that has run has written its own files.
            let mut found = case.content();
            found.retain(|path, _| path != Path::new("starts.txt") && path != Path::new("stops.txt"));
            assert!(found == if restored { archived } else { old });
            let left = case.siblings();
            assert!(left.iter().all(|name| name == "before-restore"), "{left:?}");
        }
    })
    .await;
}
