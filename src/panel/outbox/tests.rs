use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn server(last: u32) -> ServerId {
    format!("550e8400-e29b-41d4-a716-{last:012x}").parse().unwrap()
}

fn fact(last: u32, token: &str, at: i64) -> Fact {
    Fact::InstallResult {
        server: server(last),
        token: token.into(),
        successful: true,
        reinstall: false,
        at: Timestamp::from_millis(at),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn facts_survive_in_order_until_they_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state/outbox");
    let outbox = Outbox::open(&dir).unwrap();
    assert_eq!(outbox.pending().unwrap(), []);
    let (late, early) = (fact(1, "late", 2_000), fact(2, "early", 1_000));
    outbox.put(&late).unwrap();
    outbox.put(&early).unwrap();
    drop(outbox);

    let outbox = Outbox::open(&dir).unwrap();
    assert_eq!(outbox.lock().count, 2);
    assert_eq!(outbox.pending().unwrap(), [early.clone(), late.clone()]);
    assert_eq!(outbox.get(&late.key()).unwrap(), Some(late.clone()));
    outbox.remove(&early.key()).unwrap();
    outbox.remove(&early.key()).unwrap();
    assert_eq!(outbox.get(&early.key()).unwrap(), None);
    assert_eq!(outbox.pending().unwrap(), [late]);
    assert_eq!(outbox.lock().count, 1);
}

#[test]
fn names_and_content_are_what_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    // Any text may be a token; the digits are from its SHA-256.
    outbox.put(&fact(1, "../../x", 1_700_000_000_123)).unwrap();
    let digits = "9cdf6a50100a862e";
    let name = format!("550e8400-e29b-41d4-a716-000000000001-{digits}.json");
    assert_eq!(names(dir.path()), [&*name]);
    let path = dir.path().join(name);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let content: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        content,
        serde_json::json!({
            "kind": "installResult",
            "server": "550e8400-e29b-41d4-a716-000000000001",
            "token": "../../x",
            "successful": true,
            "reinstall": false,
            "at": "2023-11-14T22:13:20.123Z",
        })
    );
}

#[test]
fn the_same_fact_is_noted_once_and_a_later_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let first = fact(1, "t", 1_000);
    outbox.put(&first).unwrap();
    let path = outbox.path(&first.key());
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    outbox.put(&first).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "written again");

    let mut second = first.clone();
    let Fact::InstallResult { successful, .. } = &mut second;
    *successful = false;
    outbox.put(&second).unwrap();
    assert_eq!(outbox.pending().unwrap(), [second.clone()]);
    assert_eq!(outbox.lock().count, 1);

    // The report of the first was under way meanwhile: its end must not take the second with it.
    assert!(!outbox.settle(&first).unwrap());
    assert_eq!(outbox.pending().unwrap(), [second.clone()]);
    assert!(outbox.settle(&second).unwrap());
    assert!(outbox.settle(&second).unwrap());
    assert_eq!(outbox.pending().unwrap(), []);

    // Other installations of the server, and other servers, are other facts.
    for other in [&first, &fact(1, "u", 1_000), &fact(2, "t", 1_000)] {
        outbox.put(other).unwrap();
    }
    assert_eq!(outbox.pending().unwrap().len(), 3);
}

#[test]
fn what_cannot_be_understood_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let good = fact(1, "good", 1_000);
    outbox.put(&good).unwrap();
    let good_name = format!("{}.json", good.key());
    fs::write(dir.path().join("half.json"), r#"{"kind": "install"#).unwrap();
    fs::write(dir.path().join("unknown.json"), r#"{"kind": "fromTheFuture"}"#).unwrap();
    fs::write(dir.path().join("long.json"), vec![b' '; 100_000]).unwrap();
    fs::create_dir(dir.path().join("folder.json")).unwrap();
    symlink("/dev/zero", dir.path().join("link.json")).unwrap();
    // A good fact under another's name would be reported for ever, since its removal would miss it.
    fs::copy(dir.path().join(&good_name), dir.path().join("misnamed.json")).unwrap();
    fs::write(dir.path().join("README"), "not ours").unwrap();
    fs::write(dir.path().join(".x.json"), "not ours").unwrap();

    for _ in 0..2 {
        assert_eq!(outbox.pending().unwrap(), std::slice::from_ref(&good));
    }
    let mut expected = vec![good_name, "README".into(), ".x.json".into()];
    expected.extend(["folder", "half", "link", "long", "misnamed", "unknown"].map(|key| format!("{key}.json.broken")));
    expected.sort();
    assert_eq!(names(dir.path()), expected);

    // A second one of the same name does not replace the first.
    fs::write(dir.path().join("half.json"), "again").unwrap();
    assert_eq!(outbox.get("half").unwrap(), None);
    assert_eq!(fs::read_to_string(dir.path().join("half.json.broken.1")).unwrap(), "again");
}

#[test]
fn a_broken_file_does_not_keep_its_fact_from_being_noted() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let fact = fact(1, "t", 1_000);
    fs::write(outbox.path(&fact.key()), "").unwrap();
    outbox.put(&fact).unwrap();
    assert_eq!(outbox.pending().unwrap(), [fact]);
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn a_folder_that_is_gone_is_an_error_and_not_an_empty_one() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("outbox");
    let outbox = Outbox::open(&dir).unwrap();
    fs::remove_dir(&dir).unwrap();
    let error = outbox.pending().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    assert!(outbox.put(&fact(1, "t", 1)).is_err());
    fs::write(root.path().join("file"), "").unwrap();
    assert!(Outbox::open(root.path().join("file/outbox")).is_err());
}

#[test]
fn many_threads_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let outbox = &outbox;
            scope.spawn(move || {
                for number in 0..10 {
                    let kept = fact(thread, &format!("kept {number}"), 1);
                    let settled = fact(9, &format!("settled {number}"), 1);
                    outbox.put(&kept).unwrap();
                    outbox.put(&settled).unwrap();
                    assert!(outbox.settle(&settled).unwrap());
                }
            });
        }
    });
    assert_eq!(outbox.pending().unwrap().len(), 40);
    assert_eq!(outbox.lock().count, 40);
}
