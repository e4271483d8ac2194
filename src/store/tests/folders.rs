//! Folders that people copy, rename, move here, or put back.

use super::*;
use crate::model::{InstallOutcome, InstallResult, PowerState};

const FILES: [&str; 3] = [RECORD_FILE, REQUESTS_FILE, CONFIG_FILE];

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in FILES {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[test]
fn a_moved_folder_keeps_its_record_and_requests() {
    let there = Fixture::with_file();
    there.accepts("first", Verb::Kill);
    there.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    let here = Fixture::empty();
    copy(&there.store.folder(id()), &here.store.folder(id()));
    assert!(here.store.refresh(id()).unwrap());
    assert_eq!((&here.get().record, &here.get().requests), (&there.get().record, &there.get().requests));
    here.is_the_same_after_a_reboot();

    // Also when the very same folder comes: the news is that it is there.
    let third = Fixture::empty();
    fs::rename(there.store.folder(id()), third.store.folder(id())).unwrap();
    assert!(third.store.refresh(id()).unwrap());
    assert_eq!((&third.get().record, &third.get().requests), (&there.get().record, &there.get().requests));
}

/// A person saves the files of a server that was deleted by mistake, and puts them back.
#[test]
fn a_folder_that_is_put_back_is_not_deleted() {
    let fixture = Fixture::with_file();
    fixture.accepts("delete", Verb::Delete);
    assert!(reopened(fixture.root.path()).get(id()).unwrap().is_being_deleted(), "a deletion under way goes on");
    let rescued = fixture.root.path().join("rescued");
    copy(&fixture.store.folder(id()), &rescued);
    fixture.store.remove(id(), |_| true).unwrap();

    copy(&rescued, &fixture.store.folder(id()));
    for _ in 0..2 {
        let store = reopened(fixture.root.path());
        assert!(store.get(id()).unwrap().is_listed(), "while the daemon was down");
        store.refresh(id()).unwrap();
    }
    assert!(fixture.store.refresh(id()).unwrap());
    assert!(fixture.get().is_listed(), "while it runs");
    fixture.is_the_same_after_a_reboot();
    // It can be deleted again.
    fixture.accepts("delete again", Verb::Delete);
    assert!(reopened(fixture.root.path()).get(id()).unwrap().is_being_deleted());
}

/// The folder goes, and comes back as it was: `mv` to somewhere else and back keeps its inode.
#[test]
fn a_folder_that_comes_back_after_its_server_is_gone_is_kept() {
    let fixture = Fixture::with_file();
    fixture.accepts("delete", Verb::Delete);
    let elsewhere = fixture.root.path().join("elsewhere");
    fs::rename(fixture.store.folder(id()), &elsewhere).unwrap();
    fixture.store.remove(id(), |_| true).unwrap();
    assert!(fixture.store.get(id()).is_none());
    fs::rename(&elsewhere, fixture.store.folder(id())).unwrap();
    assert!(fixture.store.refresh(id()).unwrap());
    assert!(fixture.get().is_listed());
    assert_eq!(verbs(&fixture.get()), []);
    fixture.is_the_same_after_a_reboot();
}

/// A copy that takes the place of a folder whose server is being deleted, while the daemon is down.
#[test]
fn a_copy_in_the_place_of_a_folder_is_not_deleted() {
    let fixture = Fixture::with_file();
    fixture.accepts("delete", Verb::Delete);
    let (folder, second) = (fixture.store.folder(id()), fixture.root.path().join("second"));
    copy(&folder, &second);
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&second, &folder).unwrap();
    let store = reopened(fixture.root.path());
    let known = store.get(id()).unwrap();
    assert!(known.is_listed() && known.manifest.is_some());
    assert_eq!(verbs(&known), []);
}

/// `cp -r` of a server under a name of its own, to be edited next: until then it is no server.
#[test]
fn a_copy_of_a_server_is_not_a_second_one_of_it() {
    let text = FILE.replace("power: down", "power: up\n  restartedAt: monday\n  install: {version: one}");
    let text = text.replace("    invocation", "    skip_egg_scripts: true\n    invocation");
    let fixture = Fixture::with_text(&text);
    let result = InstallResult {
        token: fixture.get().requests.accepted[0].id.clone(),
        sequence: 1,
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: Some(0),
        reason: Reason::Completed,
        message: String::new(),
        at: Timestamp::default(),
        reported: false,
    };
    let edit_record =
        |record: &mut Record| (record.last_reported, record.install.done) = (Some(PowerState::Running), Some(result));
    fixture.store.commit(id(), edit_record).unwrap();
    fixture.accepts("second", Verb::Stop);
    fixture.accepts("again", INSTALL);
    fixture.accepts("delete", Verb::Delete);
    let two = other_id();
    copy(&fixture.store.folder(id()), &fixture.store.folder(two));
    fixture.store.refresh(two).unwrap();
    for store in [&fixture.store, &reopened(fixture.root.path())] {
        let snapshot = store.get(two).unwrap();
        assert_eq!(snapshot.manifest, None, "nothing is in effect");
        assert!(snapshot.problem.as_ref().unwrap().message.contains("metadata.uuid"), "{:?}", snapshot.problem);
        assert_eq!((snapshot.record.last_reported, verbs(&snapshot)), (None, vec![]));
        let done = snapshot.record.install.done.as_ref().expect("what was installed is in the copy");
        assert!(done.reported, "and was the other server's to report");
    }
    let config = fixture.store.folder(two).join(CONFIG_FILE);
    saves(&config, &text.replace("550e8400", "650e8400"));
    for reboots in [true, false] {
        let store = if reboots { reopened(fixture.root.path()) } else { fixture.store.clone() };
        assert!(store.refresh(two).unwrap() || !reboots);
        let copy = store.get(two).unwrap();
        assert_eq!(copy.problem, None);
        // It runs as its file says, and nothing is installed over the files that were copied.
        assert_eq!(verbs(&copy), [Verb::Start], "reboots: {reboots}");
        assert!(copy.asked(Timestamp::default()).install().is_none());
        assert!(reopened(fixture.root.path()).get(two).unwrap().requests == copy.requests || reboots);
    }
    assert!(fixture.get().is_being_deleted(), "the original is as it was");
}

/// Only the requests of another server lie in the folder.
#[test]
fn the_requests_of_another_server_are_not_carried_out() {
    let other = Fixture::with_file();
    other.store.request(id(), None, [request("install", INSTALL), request("start", Verb::Start)]).unwrap();
    let fixture = Fixture::empty();
    let two = other_id();
    fs::create_dir(fixture.store.folder(two)).unwrap();
    fs::copy(other.path(REQUESTS_FILE), fixture.store.folder(two).join(REQUESTS_FILE)).unwrap();
    assert!(reopened(fixture.root.path()).list().is_empty());
    // It was empty without them, as at the end of a removal.
    fs::create_dir(fixture.store.folder(two)).unwrap();
    saves(&fixture.store.folder(two).join(CONFIG_FILE), &FILE.replace("550e8400", "650e8400"));
    assert!(fixture.store.refresh(two).unwrap());
    for store in [&fixture.store, &reopened(fixture.root.path())] {
        let known = store.get(two).unwrap();
        assert_eq!(verbs(&known), [Verb::Stop], "its own file's");
        assert!(known.asked(Timestamp::default()).install().is_none());
    }
}

/// Its manifest was moved away, and the panel creates the server before a pass has seen the folder.
#[test]
fn a_new_server_ignores_a_stale_record_in_its_folder() {
    let there = Fixture::with_file();
    let done = InstallResult {
        token: "old".into(),
        sequence: 7,
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: Some(0),
        reason: Reason::Completed,
        message: String::new(),
        at: Timestamp::default(),
        reported: true,
    };
    there.store.commit(id(), |record| record.install.done = Some(done)).unwrap();
    let here = Fixture::empty();
    copy(&there.store.folder(id()), &here.store.folder(id()));
    fs::remove_file(here.path(CONFIG_FILE)).unwrap();
    here.store.create(manifest(id()), Record::default(), [request("install", INSTALL)]).unwrap();
    for store in [&here.store, &reopened(here.root.path())] {
        let known = store.get(id()).unwrap();
        assert_eq!(known.asked(Timestamp::default()).install().map(|install| install.id), Some("install"));
        assert_eq!(known.record.install.done, None);
    }
    here.is_the_same_after_a_reboot();
}

/// A person gives the folder of a server that is being deleted to another one.
#[test]
fn a_folder_that_is_renamed_is_not_deleted() {
    for running in [true, false] {
        let fixture = Fixture::with_file();
        fixture.accepts("delete", Verb::Delete);
        let two = other_id();
        fs::rename(fixture.store.folder(id()), fixture.store.folder(two)).unwrap();
        saves(&fixture.store.folder(two).join(CONFIG_FILE), &FILE.replace("550e8400", "650e8400"));
        let store = if running { fixture.store.clone() } else { reopened(fixture.root.path()) };
        store.refresh(two).unwrap();
        let known = store.get(two).unwrap();
        assert!(known.is_listed() && known.problem.is_none(), "{known:?}");
        assert_eq!(verbs(&known), [Verb::Stop], "what its file says, and no deletion");
        assert_eq!(reopened(fixture.root.path()).ids(), [two]);
    }
}

#[test]
fn a_folder_that_was_never_valid_is_gone_with_its_files() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("servers").join(id().to_string());
    let store = Store::open(root.path(), Blocking::Inline, Clock::System, None).unwrap();
    let broken = || {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(CONFIG_FILE), "kind: nothing").unwrap();
        store.refresh(id()).unwrap();
        assert!(store.get(id()).unwrap().problem.is_some());
    };
    broken();
    fs::remove_dir_all(&folder).unwrap();
    assert!(store.refresh(id()).unwrap());
    assert!(store.get(id()).is_none(), "the folder was removed");
    broken();
    fs::remove_file(folder.join(CONFIG_FILE)).unwrap();
    store.refresh(id()).unwrap();
    assert!(store.get(id()).is_none(), "the file was removed");
    fs::write(folder.join(CONFIG_FILE), FILE).unwrap();
    store.refresh(id()).unwrap();
    assert!(store.get(id()).unwrap().manifest.is_some(), "and may come back");
    fs::remove_dir_all(&folder).unwrap();
    store.refresh(id()).unwrap();
    assert_eq!(store.get(id()).unwrap().problem.as_ref().unwrap().reason, Reason::SpecMissing, "a server is kept");
}

#[test]
fn a_link_that_leads_nowhere_is_shown_with_its_reason_and_heals() {
    for of_folder in [false, true] {
        let root = TempDir::new().unwrap();
        let (folder, target) = (root.path().join("servers").join(id().to_string()), root.path().join("target"));
        fs::create_dir_all(root.path().join("servers")).unwrap();
        if of_folder {
            std::os::unix::fs::symlink(&target, &folder).unwrap();
        } else {
            fs::create_dir(&folder).unwrap();
            std::os::unix::fs::symlink(&target, folder.join(CONFIG_FILE)).unwrap();
        }
        let at_boot = Store::open(root.path(), Blocking::Inline, Clock::System, None).unwrap();
        let problem = at_boot.get(id()).unwrap().problem.clone().unwrap();
        assert!(problem.message.contains("is a symbolic link to"), "{problem:?}");
        let file = if of_folder {
            fs::create_dir(&target).unwrap();
            target.join(CONFIG_FILE)
        } else {
            target
        };
        fs::write(file, FILE).unwrap();
        at_boot.refresh(id()).unwrap();
        assert!(at_boot.get(id()).unwrap().problem.is_none());
    }
}

#[test]
fn the_folder_of_all_servers_is_made_again_by_the_next_write() {
    let root = TempDir::new().unwrap();
    let store = Store::open(root.path(), Blocking::Inline, Clock::System, None).unwrap();
    store.apply(id(), FILE, false).unwrap();
    fs::remove_dir_all(root.path().join("servers")).unwrap();
    store.request(id(), None, [request("a", Verb::Start)]).unwrap();
    store.commit(id(), |record| record.generation += 1).unwrap();
    fs::remove_dir_all(root.path().join("servers")).unwrap();
    let second = FILE.replace(&id().to_string(), &other_id().to_string());
    store.apply(other_id(), &second, false).unwrap();
    let again = Store::open(root.path(), Blocking::Inline, Clock::System, None).unwrap();
    assert_eq!(again.ids(), [other_id()]);
}

/// SIGKILL in the last steps of a removal left a folder that nothing removed.
#[test]
fn a_folder_that_a_removal_has_left_empty_is_gone_after_the_next_boot() {
    let root = TempDir::new().unwrap();
    let folders = [id(), other_id()].map(|id| root.path().join("servers").join(id.to_string()));
    folders.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    fs::write(folders[0].join(REQUESTS_FILE), "{}").unwrap();
    let kept = root.path().join("servers/33333333-3333-4333-8333-333333333333/data");
    fs::create_dir_all(&kept).unwrap();
    let store = Store::open(root.path(), Blocking::Inline, Clock::System, None).unwrap();
    assert_eq!(store.ids(), []);
    assert!(folders.iter().all(|folder| !folder.exists()));
    assert!(kept.exists(), "files of a server that is unknown");
}
