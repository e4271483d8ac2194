//! SIGKILL at random instants of what operators do: the undo of a restore, deletions into the trash and back, exports and imports, and backups by
//! time. Neither of two trees is lost, one of them is in place, and nothing is left over.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::{Case, MIB, case, case_with, kills, record};
use crate::daemon_process::{Node, until};
use crate::transfers::named;
use crate::trees::{Content, content, fill, has_marker, merged};

/// A command of the operator.
fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alula"));
    command.args(arguments).arg("--config").arg(node.folder.path().join("config.yml"));
    command.env("NO_PROXY", "*").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command that must succeed. Returns what it has written.
async fn run(node: &Node, arguments: &[&str]) -> Vec<u8> {
    let mut command = tokio::process::Command::from(command(node, arguments));
    let output = command.output().await.expect("the program");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Waits for the end of a command whose daemon may have been killed. Whether it succeeded.
fn ended(child: Child) -> bool {
    child.wait_with_output().expect("the program").status.success()
}

/// Lets a command run for a part of the time that it takes, kills the daemon, and starts it again. Returns whether the command succeeded.
/// `is_done` is asked while no daemon runs.
async fn killed_during(case: &mut Case<'_>, mut command: Command, is_done: impl FnOnce(&Case<'_>) -> bool) -> bool {
    let child = command.spawn().expect("the program");
    let delay = case.tally.spread();
    tokio::time::sleep(delay).await;
    case.kill();
    let done = is_done(case);
    case.tally.hit(!done);
    case.note(if done { "after its end" } else { "under way" });
    let succeeded = ended(child);
    case.node.boot().await;
    succeeded
}

/// Makes the server one that no panel manages: a panel lists its servers again after they were deleted by hand.
async fn manage_by_file(case: &Case<'_>) {
    let (node, id) = (&*case.node, &case.id);
    let text = fs::read_to_string(node.folder.path().join("root/servers").join(id).join("config.yml")).expect("a file");
    let manifest = node.folder.path().join("manifest.yml");
    fs::write(&manifest, text.replace("managedBy: panel", "managedBy: file")).expect("a file");
    run(node, &["apply", "-f", &manifest.display().to_string()]).await;
    node.panel.remove(id);
}

/// A complete backup that no panel has.
async fn local_backup(case: &Case<'_>) -> String {
    let made = run(case.node, &["backup", "create", &case.id, "--wait", "--output", "json"]).await;
    let made: Value = serde_json::from_slice(&made).expect("JSON");
    made["backup"].as_str().expect("an id").to_owned()
}

async fn undone(name: &'static str, truncate: bool) {
    case(name, async |case| {
        fill(&case.data(), 20, 40, 2 * MIB);
        let archived = case.content();
        let backup = case.complete_backup().await;
        fill(&case.data(), 21, 30, MIB);
        let (mut there, mut here) = (case.content(), archived.clone());
        if !truncate {
            here = merged(&there, &archived);
        }
        assert_eq!(case.restore(&backup, truncate).await, 202);
        until("the restore", async || (case.record()["restore"]["reported"] == true).then_some(())).await;
        assert!(case.content() == here);
        let mut first = true;
        while case.tally.goes_on() {
            let before = case.record()["restore"]["token"].clone();
            let begun = Instant::now();
            let undo = ["backup", "undo", &case.id.clone(), "--yes"];
            if std::mem::take(&mut first) {
                run(case.node, &undo).await;
            } else {
                let is_done = |case: &Case<'_>| {
                    let found = case.content();
                    let exchanged = found == there;
                    assert!(!truncate || exchanged || found == here, "the files are neither the old nor the new ones");
                    let restore = &case.record()["restore"];
                    let done = restore["token"] != before && !restore["result"].is_null();
                    assert!(!done || exchanged, "the end is recorded before it is true");
                    done
                };
                let command = command(case.node, &undo);
                let accepted = killed_during(case, command, is_done).await;
                if case.record()["restore"]["token"] == before {
                    assert!(!accepted, "an undo was accepted, and is gone");
                    assert!(case.content() == here);
                    run(case.node, &undo).await;
                }
            }
            until("its end", async || {
                let restore = case.record()["restore"].clone();
                (restore["token"] != before && !restore["result"].is_null()).then_some(())
            })
            .await;
            if case.tally.kills == 0 {
                case.tally.takes = begun.elapsed();
            }
            assert_eq!(case.record()["restore"]["result"]["succeeded"], true);
            std::mem::swap(&mut here, &mut there);
            assert!(case.content() == here, "the files are not those from before the restore");
            assert!(!has_marker(&case.data()));
            assert_eq!(case.siblings(), ["before-restore"]);
            if truncate {
                let former = case.data().parent().expect("a parent").join(format!(".{}.before-restore/tree", case.id));
                assert_eq!(content(&former).as_ref(), Some(&there), "the other files are kept");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn at_random_instants_of_the_undo_of_a_restore_that_has_removed_files() {
    undone("the undo of a restore that has removed files", true).await;
}

#[tokio::test]
async fn at_random_instants_of_the_undo_of_a_restore_that_has_kept_files() {
    undone("the undo of a restore that has kept files", false).await;
}

/// The deleted servers that are kept.
fn trash(node: &Node) -> Vec<PathBuf> {
    let entries = fs::read_dir(node.folder.path().join("root/trash")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The trees of the server that are on the node: where it is used, and in the trash.
fn trees(case: &Case<'_>) -> Vec<Content> {
    let kept = trash(case.node).into_iter().map(|entry| entry.join("data"));
    let used = case.data();
    // A server that is being created has an empty directory.
    [used].into_iter().chain(kept).filter_map(|path| content(&path)).filter(|found| !found.is_empty()).collect()
}

fn only_tree(case: &Case<'_>, expected: &Content) {
    let found = trees(case);
    assert!(found.len() == 1, "{} trees", found.len());
    assert!(found[0] == *expected, "the files are others");
}

/// Whether the server is being deleted, or was.
async fn is_deleting(case: &Case<'_>) -> bool {
    !is_known(case).await || !trash(case.node).is_empty()
}

async fn is_known(case: &Case<'_>) -> bool {
    case.node.get(&format!("/api/servers/{}", case.id)).await.is_some()
}

/// The server is used, with its files and backups, and only there.
async fn is_in_place(case: &Case<'_>, expected: &Content, backup: &str) {
    assert!(is_known(case).await);
    assert!(case.content() == *expected, "the files are others");
    only_tree(case, expected);
    until("an empty trash", async || trash(case.node).is_empty().then_some(())).await;
    assert!(case.known(backup).is_some_and(|known| known["result"]["succeeded"] == true));
    assert_eq!(case.files(), [format!("{backup}.tar.gz")]);
    assert_eq!(case.siblings(), Vec::<String>::new());
}

/// The server is in the trash with its files and backups, and only there.
async fn is_in_trash(case: &Case<'_>, expected: &Content, backup: &str) {
    let folder = case.node.folder.path().join("root/servers").join(&case.id);
    let begun = Instant::now();
    while folder.exists() || is_known(case).await {
        let left: Vec<PathBuf> =
            fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(begun.elapsed() < Duration::from_secs(10), "not removed: {left:?}, known: {}", is_known(case).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    only_tree(case, expected);
    let kept = trash(case.node);
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert!(kept.join("backups").join(format!("{backup}.tar.gz")).exists());
    let left = named(case.node, &case.id);
    assert!(left.iter().all(|path| path == kept), "{left:?}");
}

#[tokio::test]
async fn at_random_instants_of_a_deletion_into_the_trash_and_back() {
    case("a deletion into the trash, and back", async |case| {
        manage_by_file(case).await;
        fill(&case.data(), 30, 40, MIB);
        let expected = case.content();
        let backup = local_backup(case).await;
        let id = case.id.clone();
        let (delete, restore) = (["delete", &id, "--yes"], ["restore-deleted", &id]);
        let mut takes = [Duration::ZERO; 2];
        let begun = Instant::now();
        run(case.node, &delete).await;
        is_in_trash(case, &expected, &backup).await;
        takes[0] = begun.elapsed();
        let begun = Instant::now();
        run(case.node, &restore).await;
        takes[1] = begun.elapsed();
        is_in_place(case, &expected, &backup).await;
        while case.tally.goes_on() {
            if case.tally.rng.below(2) == 0 {
                case.tally.takes = takes[0];
                let folder = case.node.folder.path().join("root/servers").join(&id);
                let command = command(case.node, &delete);
                let accepted = killed_during(case, command, |case| {
                    only_tree(case, &expected);
                    !folder.exists()
                })
                .await;
                // A request that was not accepted has changed nothing.
                if !accepted && !is_deleting(case).await {
                    assert!(case.content() == expected);
                    run(case.node, &delete).await;
                }
            } else {
                run(case.node, &delete).await;
            }
            is_in_trash(case, &expected, &backup).await;
            if case.tally.rng.below(3) > 0 && case.tally.kills < kills() {
                case.tally.takes = takes[1];
                let command = command(case.node, &restore);
                let restored = killed_during(case, command, |case| {
                    only_tree(case, &expected);
                    trash(case.node).is_empty()
                })
                .await;
                assert!(!restored || is_known(case).await, "a server was brought back, and is gone");
                if !is_known(case).await {
                    is_in_trash(case, &expected, &backup).await;
                    run(case.node, &restore).await;
                }
            } else {
                run(case.node, &restore).await;
            }
            is_in_place(case, &expected, &backup).await;
        }
    })
    .await;
}

#[tokio::test]
async fn at_random_instants_of_an_export_and_an_import() {
    case("an export and an import", async |case| {
        manage_by_file(case).await;
        fill(&case.data(), 40, 60, 3 * MIB);
        let expected = case.content();
        let backup = local_backup(case).await;
        let id = case.id.clone();
        let export = ["export", &id, "--with-backups"];
        let stream = case.node.folder.path().join("stream");
        let begun = Instant::now();
        fs::write(&stream, run(case.node, &export).await).expect("a file");
        let mut takes = [begun.elapsed(), Duration::from_secs(1)];
        run(case.node, &["delete", &id, "--yes", "--now"]).await;
        let import = |case: &Case<'_>, stream: &Path| {
            let mut command = command(case.node, &["import"]);
            command.stdin(File::open(stream).expect("a file"));
            command
        };
        is_nowhere(case).await;
        let begun = Instant::now();
        assert!(ended(import(case, &stream).spawn().expect("the program")));
        takes[1] = begun.elapsed();
        is_in_place(case, &expected, &backup).await;
        let (cut, whole_size) =
            (case.node.folder.path().join("cut"), fs::metadata(&stream).expect("a file").len() * 99 / 100);
        while case.tally.goes_on() {
            if case.tally.kills % 3 == 2 {
                case.tally.takes = takes[0];
                let mut command = command(case.node, &export);
                command.stdout(File::create(&cut).expect("a file"));
                let size = || fs::metadata(&cut).map(|found| found.len()).unwrap_or_default();
                let whole = killed_during(case, command, |_| size() >= whole_size).await;
                is_in_place(case, &expected, &backup).await;
                run(case.node, &["delete", &id, "--yes", "--now"]).await;
                is_nowhere(case).await;
                // A stream without its end is refused, and leaves nothing.
                let imported = ended(import(case, &cut).spawn().expect("the program"));
                assert!(imported || !whole, "{} bytes", size());
                if !imported {
                    is_nowhere(case).await;
                    assert!(ended(import(case, &stream).spawn().expect("the program")));
                }
            } else {
                run(case.node, &["delete", &id, "--yes", "--now"]).await;
                is_nowhere(case).await;
                case.tally.takes = takes[1];
                let command = import(case, &stream);
                let imported = killed_during(case, command, |case| !record(case.node, &id).is_null()).await;
                assert!(!imported || is_known(case).await, "a server was imported, and is gone");
                if !is_known(case).await {
                    until("what is kept", async || is_settled(case).then_some(())).await;
                    match trash(case.node).as_slice() {
                        // Complete, and not in place yet.
                        [_] => drop(run(case.node, &["restore-deleted", &id]).await),
                        _ => {
                            is_nowhere(case).await;
                            assert!(ended(import(case, &stream).spawn().expect("the program")));
                        }
                    }
                }
            }
            is_in_place(case, &expected, &backup).await;
        }
    })
    .await;
}

/// Whether an interrupted import is removed, or complete.
fn is_settled(case: &Case<'_>) -> bool {
    trash(case.node).iter().all(|entry| entry.join("entry.json").exists())
}

async fn is_nowhere(case: &Case<'_>) {
    until("the removal", async || (!is_known(case).await && named(case.node, &case.id).is_empty()).then_some(())).await;
    assert!(trees(case).is_empty());
}

/// A time that is due when the daemon starts makes one backup, at whatever instant that daemon and the next ones die.
#[tokio::test]
async fn around_the_time_of_a_schedule() {
    // The time itself does not come during the test.
    let schedule = json!([{"name": "yearly", "schedule": "0 4 29 2 *"}]);
    let config = json!({"alula": {"backups": schedule}, "system": {"backups": {"write_limit": 4}}});
    case_with("backups by time", config, async |case| {
        fill(&case.data(), 60, 20, 2 * MIB);
        let path = case.node.folder.path().join("root/servers").join(&case.id).join("record.json");
        case.node.kill_and_boot().await;
        until("the schedule in the record", async || case.record()["scheduled"]["yearly"].as_str().map(drop)).await;
        let mut expected = 0;
        case.tally.takes = Duration::from_millis(600);
        while case.tally.goes_on() {
            // Times were missed: the daemon did not run for years.
            case.node.kill();
            let mut stored: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
            stored["record"]["scheduled"]["yearly"] = json!("2020-01-01T00:00:00Z");
            fs::write(&path, stored.to_string()).expect("a file");
            expected += 1;
            for _ in 0..1 + case.tally.rng.below(3) {
                case.node.spawn();
                let delay = case.tally.spread();
                tokio::time::sleep(delay).await;
                case.kill();
                let (requested, made) = (scheduled(case).len(), complete(case));
                assert!(requested == expected || requested + 1 == expected, "{requested} backups of {expected} times");
                case.tally.hit(made < expected);
                case.note(match () {
                    () if requested < expected => "before the request",
                    () if made < expected => "while it is made",
                    () => "after its end",
                });
            }
            case.node.boot().await;
            until("the backup", async || (complete(case) == expected).then_some(())).await;
            assert_eq!(scheduled(case).len(), expected);
            let mut files = case.files();
            files.sort();
            let mut names: Vec<String> = scheduled(case).iter().map(|id| format!("{id}.tar.gz")).collect();
            names.sort();
            assert_eq!(files, names);
            assert_eq!(case.siblings(), Vec::<String>::new());
        }
    })
    .await;
}

/// The backups of the schedule.
fn scheduled(case: &Case<'_>) -> Vec<String> {
    let known = case.record()["backups"].clone();
    let of_schedule = known.as_array().into_iter().flatten().filter(|backup| backup["schedule"] == "yearly");
    of_schedule.filter_map(|backup| Some(backup["id"].as_str()?.to_owned())).collect()
}

/// How many of them are complete.
fn complete(case: &Case<'_>) -> usize {
    let known = case.record()["backups"].clone();
    known.as_array().into_iter().flatten().filter(|backup| backup["result"]["succeeded"] == true).count()
}
