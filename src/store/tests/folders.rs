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
fn a_server_that_is_moved_here_brings_its_facts_and_requests() {
    let there = Scene::with_file();
    there.accepts("first", Verb::Kill);
    there.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    let here = Scene::empty();
    copy(&there.store.folder(id()), &here.store.folder(id()));
    assert!(here.store.refresh(id()).unwrap());
    assert_eq!((&here.get().record, &here.get().requests), (&there.get().record, &there.get().requests));
    here.is_the_same_after_a_reboot();

    // Also when the very same folder comes: the news is that it is there.
    let third = Scene::empty();
    fs::rename(there.store.folder(id()), third.store.folder(id())).unwrap();
    assert!(third.store.refresh(id()).unwrap());
    assert_eq!((&third.get().record, &third.get().requests), (&there.get().record, &there.get().requests));
}

/// A person saves the files of a server that was deleted by mistake, and puts them back.
#[test]
fn a_folder_that_is_put_back_is_not_deleted() {
    let scene = Scene::with_file();
    scene.accepts("delete", Verb::Delete);
    assert!(reopened(scene.root.path()).get(id()).unwrap().is_being_deleted(), "a deletion under way goes on");
    let rescued = scene.root.path().join("rescued");
    copy(&scene.store.folder(id()), &rescued);
    scene.store.remove(id()).unwrap();

    copy(&rescued, &scene.store.folder(id()));
    for _ in 0..2 {
        let store = reopened(scene.root.path());
        assert!(store.get(id()).unwrap().is_listed(), "while the daemon was down");
        store.refresh(id()).unwrap();
    }
    assert!(scene.store.refresh(id()).unwrap());
    assert!(scene.get().is_listed(), "while it runs");
    scene.is_the_same_after_a_reboot();
    // It can be deleted again.
    scene.accepts("delete again", Verb::Delete);
    assert!(reopened(scene.root.path()).get(id()).unwrap().is_being_deleted());
}

/// The folder goes, and comes back as it was: `mv` to somewhere else and back keeps its inode.
#[test]
fn a_folder_that_comes_back_after_its_server_is_gone_is_kept() {
    let scene = Scene::with_file();
    scene.accepts("delete", Verb::Delete);
    let elsewhere = scene.root.path().join("elsewhere");
    fs::rename(scene.store.folder(id()), &elsewhere).unwrap();
    scene.store.remove(id()).unwrap();
    assert!(scene.store.get(id()).is_none());
    fs::rename(&elsewhere, scene.store.folder(id())).unwrap();
    assert!(scene.store.refresh(id()).unwrap());
    assert!(scene.get().is_listed());
    assert_eq!(verbs(&scene.get()), []);
    scene.is_the_same_after_a_reboot();
}

/// A copy that takes the place of a folder whose server is being deleted, while the daemon is down.
#[test]
fn a_copy_in_the_place_of_a_folder_is_not_deleted() {
    let scene = Scene::with_file();
    scene.accepts("delete", Verb::Delete);
    let (folder, second) = (scene.store.folder(id()), scene.root.path().join("second"));
    copy(&folder, &second);
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&second, &folder).unwrap();
    let store = reopened(scene.root.path());
    let known = store.get(id()).unwrap();
    assert!(known.is_listed() && known.manifest.is_some());
    assert_eq!(verbs(&known), []);
}

/// `cp -r` of a server under a name of its own, to be edited next: until then it is no server.
#[test]
fn a_copy_of_a_server_is_not_a_second_one_of_it() {
    let text = FILE.replace("power: down", "power: up\n  restartedAt: monday\n  install: {version: one}");
    let text = text.replace("    invocation", "    skip_egg_scripts: true\n    invocation");
    let scene = Scene::with_text(&text);
    let result = InstallResult {
        token: scene.get().requests.accepted[0].id.clone(),
        sequence: 1,
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: Some(0),
        reason: Reason::Completed,
        message: String::new(),
        at: Timestamp::default(),
        reported: false,
    };
    let facts =
        |record: &mut Record| (record.last_reported, record.install.done) = (Some(PowerState::Running), Some(result));
    scene.store.commit(id(), facts).unwrap();
    scene.accepts("second", Verb::Stop);
    scene.accepts("again", INSTALL);
    scene.accepts("delete", Verb::Delete);
    let two = other_id();
    copy(&scene.store.folder(id()), &scene.store.folder(two));
    scene.store.refresh(two).unwrap();
    for store in [&scene.store, &reopened(scene.root.path())] {
        let snapshot = store.get(two).unwrap();
        assert_eq!(snapshot.manifest, None, "nothing is in effect");
        assert!(snapshot.problem.as_ref().unwrap().message.contains("metadata.uuid"), "{:?}", snapshot.problem);
        assert_eq!((snapshot.record.last_reported, verbs(&snapshot)), (None, vec![]));
        let done = snapshot.record.install.done.as_ref().expect("what was installed is in the copy");
        assert!(done.reported, "and was the other server's to report");
    }
    let config = scene.store.folder(two).join(CONFIG_FILE);
    saves(&config, &text.replace("550e8400", "650e8400"));
    for reboots in [true, false] {
        let store = if reboots { reopened(scene.root.path()) } else { scene.store.clone() };
        assert!(store.refresh(two).unwrap() || !reboots);
        let copy = store.get(two).unwrap();
        assert_eq!(copy.problem, None);
        // It runs as its file says, and nothing is installed over the files that were copied.
        assert_eq!(verbs(&copy), [Verb::Start], "reboots: {reboots}");
        assert!(copy.asked(Timestamp::default()).install().is_none());
        assert!(reopened(scene.root.path()).get(two).unwrap().requests == copy.requests || reboots);
    }
    assert!(scene.get().is_being_deleted(), "the original is as it was");
}

/// Only the requests of another server lie in the folder.
#[test]
fn the_requests_of_another_server_are_not_carried_out() {
    let other = Scene::with_file();
    other.store.request(id(), None, [request("install", INSTALL), request("start", Verb::Start)]).unwrap();
    let scene = Scene::empty();
    let two = other_id();
    fs::create_dir(scene.store.folder(two)).unwrap();
    fs::copy(other.path(REQUESTS_FILE), scene.store.folder(two).join(REQUESTS_FILE)).unwrap();
    assert!(reopened(scene.root.path()).list().is_empty());
    saves(&scene.store.folder(two).join(CONFIG_FILE), &FILE.replace("550e8400", "650e8400"));
    assert!(scene.store.refresh(two).unwrap());
    for store in [&scene.store, &reopened(scene.root.path())] {
        let known = store.get(two).unwrap();
        assert_eq!(verbs(&known), [Verb::Stop], "its own file's");
        assert!(known.asked(Timestamp::default()).install().is_none());
    }
}

/// Its manifest was moved away, and the panel creates the server before a pass has seen the folder.
#[test]
fn a_new_server_has_nothing_of_the_facts_that_lie_in_its_folder() {
    let there = Scene::with_file();
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
    let here = Scene::empty();
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
        let scene = Scene::with_file();
        scene.accepts("delete", Verb::Delete);
        let two = other_id();
        fs::rename(scene.store.folder(id()), scene.store.folder(two)).unwrap();
        saves(&scene.store.folder(two).join(CONFIG_FILE), &FILE.replace("550e8400", "650e8400"));
        let store = if running { scene.store.clone() } else { reopened(scene.root.path()) };
        store.refresh(two).unwrap();
        let known = store.get(two).unwrap();
        assert!(known.is_listed() && known.problem.is_none(), "{known:?}");
        assert_eq!(verbs(&known), [Verb::Stop], "what its file says, and no deletion");
        assert_eq!(reopened(scene.root.path()).ids(), [two]);
    }
}
