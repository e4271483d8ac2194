//! Files that people break, and what is said about them.

use super::*;

/// A person saves this; then the last good intent stays in force, and the generation stands. Returns what is said.
#[track_caller]
fn refused(file: &str, text: &str) -> String {
    let scene = Scene::with_file();
    let before = scene.get();
    scene.saves(file, text);
    assert!(scene.store.refresh(id()).unwrap(), "a new problem is news");
    let after = scene.get();
    assert_eq!(after.manifest, before.manifest, "the last good intent stays in force");
    assert_eq!(after.record, before.record, "and its generation");
    assert_eq!(after.problem.as_ref().unwrap().reason, Reason::SpecInvalid);
    assert!(!scene.store.refresh(id()).unwrap(), "the same problem is no news");
    scene.is_the_same_after_a_reboot();

    // Mended, it counts.
    scene.saves(file, if file == CONFIG_FILE { FILE } else { "" });
    assert!(scene.store.refresh(id()).unwrap());
    assert_eq!(scene.get().problem, None);
    assert_eq!(scene.get().record.generation, before.record.generation, "what was meant before is meant again");
    scene.is_the_same_after_a_reboot();
    after.problem.clone().unwrap().message
}

/// What is said names these things.
#[track_caller]
fn names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn a_tab_is_found() {
    let message = refused(CONFIG_FILE, &FILE.replace("  settings:", "\tsettings:"));
    names(&message, &["config.yml", "line 9", "tab"]);
}

#[test]
fn a_key_that_is_there_twice_is_found() {
    let message = refused(CONFIG_FILE, &FILE.replace("    invocation", "    invocation: ./other\n    invocation"));
    names(&message, &["config.yml", "line 11", "invocation"]);
}

#[test]
fn an_unknown_key_is_found_and_the_nearest_one_named() {
    let message = refused(CONFIG_FILE, &FILE.replace("invocation:", "invokation:"));
    names(&message, &["config.yml", "line 10", "invokation", "did you mean `invocation`?"]);
}

#[test]
fn a_wrong_type_is_found() {
    let message = refused(CONFIG_FILE, &FILE.replace("{image: 'example/image:1'}", "[example, image]"));
    names(&message, &["config.yml", "line 12", "spec.settings.container"]);
}

#[test]
fn a_wrong_word_is_found() {
    let message = refused(CONFIG_FILE, &FILE.replace("want: down", "want: sideways"));
    names(&message, &["config.yml", "line 8", "sideways", "up", "down"]);
}

#[test]
fn a_wish_without_a_name_is_found() {
    let message = refused(CONFIG_FILE, &FILE.replace("{id: first, want: down}", "{want: down}"));
    names(&message, &["config.yml", "line 8", "spec.power.id", "write any text"]);
    let message = refused(CONFIG_FILE, &FILE.replace("id: first", "id: ''"));
    names(&message, &["config.yml", "line 8", "spec.power.id", "write any text"]);
}

#[test]
fn a_uuid_that_is_not_the_folders_is_found() {
    let message = refused(CONFIG_FILE, &FILE.replace("550e8400", "650e8400"));
    names(&message, &["metadata.uuid", "650e8400", "550e8400", "move the file"]);
}

#[test]
fn a_file_that_is_half_written_is_waited_for() {
    let half = &FILE[..FILE.find("de_dust").unwrap()];
    names(&refused(CONFIG_FILE, half), &["config.yml", "line"]);
}

#[test]
fn ten_mebibytes_are_not_read() {
    let message = refused(CONFIG_FILE, &format!("{FILE}# {}", "x".repeat(10 * 1024 * 1024)));
    names(&message, &["config.yml", "1048576"]);
}

#[test]
fn a_bomb_of_aliases_is_not_unpacked() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    names(&refused(CONFIG_FILE, &bomb), &["config.yml"]);
    names(&refused(OVERRIDE_FILE, &bomb), &["override.yml"]);
}

#[test]
fn a_million_open_brackets_are_not_followed() {
    names(&refused(CONFIG_FILE, &"[".repeat(1_000_000)), &["config.yml"]);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let scene = Scene::with_file();
    crate::atomic::write_file(&scene.path(CONFIG_FILE), &[0x6b, 0xff, 0xfe], 0o644).unwrap();
    scene.store.refresh(id()).unwrap();
    names(&scene.problem(), &["config.yml", "UTF-8"]);
    assert_eq!(scene.get().record.generation, 1);
}

#[test]
fn what_is_no_file_is_refused() {
    let scene = Scene::with_file();
    fs::remove_file(scene.path(CONFIG_FILE)).unwrap();
    fs::create_dir(scene.path(CONFIG_FILE)).unwrap();
    scene.store.refresh(id()).unwrap();
    names(&scene.problem(), &["config.yml"]);
    assert_eq!(scene.intent().spec.settings.invocation, "./run");
}

#[test]
fn a_broken_override_is_named_as_such() {
    let message = refused(OVERRIDE_FILE, "spec:\n  settings:\n    invokation: ./other\n");
    names(&message, &["override.yml", "invokation", "did you mean `invocation`?"]);
    names(&refused(OVERRIDE_FILE, "spec: {settings: {invocation: a, invocation: b}}"), &["override.yml", "invocation"]);
    names(&refused(OVERRIDE_FILE, "just words"), &["override.yml"]);
    names(&refused(OVERRIDE_FILE, "metadata: {uuid: 650e8400-e29b-41d4-a716-446655440000}"), &["metadata.uuid"]);
}

#[test]
fn a_wish_in_an_override_is_refused() {
    let power = "spec:\n  settings: {invocation: ./other}\n  power: {id: mine, want: up}\n";
    names(&refused(OVERRIDE_FILE, power), &["override.yml", "line 3", "spec.power", "write it into config.yml"]);
    let install = "spec:\n  install: {token: mine, skipScripts: true}\n";
    names(&refused(OVERRIDE_FILE, install), &["override.yml", "line 2", "spec.install", "write it into config.yml"]);
    names(&refused(OVERRIDE_FILE, "spec: {power: null}"), &["override.yml", "spec.power"]);
}

#[test]
fn a_file_that_vanishes_changes_nothing() {
    let scene = Scene::with_file();
    let before = scene.get();
    fs::remove_file(scene.path(CONFIG_FILE)).unwrap();
    assert!(scene.store.refresh(id()).unwrap());
    let after = scene.get();
    assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record));
    assert_eq!(after.problem.as_ref().unwrap().reason, Reason::SpecMissing);
    names(&scene.problem(), &["config.yml", "nothing is deleted", "alula delete"]);
    scene.is_the_same_after_a_reboot();

    scene.saves(CONFIG_FILE, FILE);
    assert!(scene.store.refresh(id()).unwrap());
    assert_eq!((scene.get().problem.clone(), scene.get().record.generation), (None, 1));
}

#[test]
fn a_folder_that_vanishes_changes_nothing_either() {
    let scene = Scene::with_file();
    fs::rename(scene.store.folder(id()), scene.root.path().join("elsewhere")).unwrap();
    scene.store.refresh(id()).unwrap();
    assert_eq!(scene.get().problem.as_ref().unwrap().reason, Reason::SpecMissing);
    assert_eq!(scene.intent().spec.settings.invocation, "./run");
}

#[test]
fn a_new_server_with_a_broken_file_has_no_intent_but_a_problem() {
    let scene = Scene::empty();
    fs::create_dir(scene.store.folder(id())).unwrap();
    scene.saves(CONFIG_FILE, "apiVersion: alula/v1\n");
    assert!(scene.store.refresh(id()).unwrap());
    assert!(scene.get().manifest.is_none());
    assert!(!scene.get().is_listed());
    scene.is_the_same_after_a_reboot();
    scene.saves(CONFIG_FILE, FILE);
    scene.store.refresh(id()).unwrap();
    assert_eq!((scene.get().problem.clone(), scene.get().record.generation), (None, 1));
    assert!(scene.get().is_listed());
}

#[test]
fn nothing_is_written_into_a_broken_file() {
    for (file, text) in [(CONFIG_FILE, "spec: {"), (OVERRIDE_FILE, "spec: {")] {
        let scene = Scene::with_file();
        scene.saves(file, text);
        scene.store.refresh(id()).unwrap();
        let before = (scene.get(), fs::read_to_string(scene.path(file)).unwrap(), scene.config());
        let error = scene.store.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap_err();
        assert!(matches!(&error, StoreError::Broken { path, .. } if path.ends_with(file)), "{file}: {error}");
        let after = (scene.get(), fs::read_to_string(scene.path(file)).unwrap(), scene.config());
        assert_eq!((after.0.revision, after.1, after.2), (before.0.revision, before.1, before.2), "{file}");
    }
}

#[test]
fn a_power_wish_counts_while_a_file_is_broken() {
    for file in [CONFIG_FILE, OVERRIDE_FILE] {
        let scene = Scene::with_file();
        scene.saves(file, "spec: {");
        scene.store.refresh(id()).unwrap();
        scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
        assert_eq!(scene.intent().spec.power, Some(wish("second", Want::Up)), "{file}");
        assert_eq!(scene.get().record.generation, 2);
        scene.is_the_same_after_a_reboot();

        // Whole again, the file has it at once, and every comment.
        scene.saves(file, if file == CONFIG_FILE { FILE } else { "" });
        assert!(scene.store.refresh(id()).unwrap());
        assert_eq!(scene.get().record.pending_power, None, "{file}");
        assert_eq!(scene.intent().spec.power, Some(wish("second", Want::Up)), "{file}");
        for part in ["id: second", "# up since 2019", "# fast", "# from the old host"] {
            assert!(scene.config().contains(part), "{file}: {part} is missing in {}", scene.config());
        }
        scene.is_the_same_after_a_reboot();
        scene.disk.done();
        assert!(!scene.store.refresh(id()).unwrap());
        assert_eq!(scene.disk.done(), [], "what the store wrote itself is no news");
    }
}

#[test]
fn the_wish_of_whoever_mends_a_file_is_later() {
    for (mended, expected) in [
        (FILE.replace("id: first", "id: by-hand"), wish("by-hand", Want::Down)),
        (FILE.replace("want: down", "want: up"), wish("first", Want::Up)),
        (FILE.replace("  power: {id: first, want: down}\n", ""), wish("second", Want::Up)),
    ] {
        for reboots in [false, true] {
            let scene = Scene::with_file();
            scene.saves(CONFIG_FILE, "spec: {");
            scene.store.refresh(id()).unwrap();
            scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
            scene.saves(CONFIG_FILE, &mended);
            let store = if reboots {
                Store::open(scene.root.path(), Blocking::Inline, None).unwrap()
            } else {
                scene.store.clone()
            };
            let before = store.get(id()).unwrap();
            store.refresh(id()).unwrap();
            let after = store.get(id()).unwrap();
            assert_eq!(after.manifest.as_ref().unwrap().spec.power.as_ref(), Some(&expected));
            assert!(!reboots || before.manifest == after.manifest, "what is read at boot is what is recorded");
            assert_eq!(after.record.pending_power, None);
            assert!(!after.record.power_closed(&expected.id, expected.want));
        }
    }
}

#[test]
fn a_waiting_wish_counts_until_it_is_home() {
    let scene = Scene::with_file();
    scene.saves(CONFIG_FILE, "spec: {");
    scene.store.refresh(id()).unwrap();
    scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
    scene.saves(CONFIG_FILE, FILE);
    scene.disk.refuses(&[DiskOp::WriteIntent], io::ErrorKind::StorageFull);
    scene.store.refresh(id()).unwrap();
    assert_eq!(scene.get().problem, None);
    assert_eq!(scene.get().record.pending_power, Some(wish("second", Want::Up)));
    assert_eq!(scene.intent().spec.power, Some(wish("second", Want::Up)));
    scene.is_the_same_after_a_reboot();
    scene.disk.refuses(&[], io::ErrorKind::StorageFull);
    assert!(scene.store.refresh(id()).unwrap());
    assert_eq!(scene.get().record.pending_power, None);
    assert!(scene.config().contains("second"));
    scene.is_the_same_after_a_reboot();
}

#[test]
fn a_later_power_wish_replaces_the_one_that_waits() {
    let scene = Scene::with_file();
    scene.saves(CONFIG_FILE, "spec: {");
    scene.store.refresh(id()).unwrap();
    scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
    scene.store.wish_power(id(), None, wish("third", Want::Down)).unwrap();
    assert_eq!(scene.intent().spec.power, Some(wish("third", Want::Down)));
    scene.saves(CONFIG_FILE, FILE);
    scene.store.refresh(id()).unwrap();
    scene.store.wish_power(id(), None, wish("fourth", Want::Up)).unwrap();
    assert_eq!(scene.intent().spec.power, Some(wish("fourth", Want::Up)));
    assert_eq!(scene.get().record.pending_power, None);
    scene.is_the_same_after_a_reboot();
}

#[test]
fn the_store_never_writes_what_it_could_not_read() {
    let scene = Scene::with_file();
    let before = scene.config();
    for (name, edit) in [
        (
            "a token without text",
            (|manifest: &mut Manifest| {
                manifest.spec.install = Some(serde_json::from_value(serde_json::json!({"token": ""})).unwrap());
            }) as fn(&mut Manifest),
        ),
        ("another server's uuid", |manifest| {
            manifest.metadata.uuid = "650e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        }),
    ] {
        let error = scene.store.change(id(), None, edit).unwrap_err();
        assert!(matches!(error, StoreError::Broken { .. }), "{name}: {error}");
        assert_eq!(scene.config(), before, "{name}");
        assert_eq!(scene.get().problem, None, "{name}");
    }
    let mut new = manifest("650e8400-e29b-41d4-a716-446655440000".parse().unwrap());
    new.spec.settings.invocation = "x".repeat(2 * 1024 * 1024);
    let folder = scene.store.folder(new.metadata.uuid);
    assert!(matches!(scene.store.create(new, Record::default()).unwrap_err(), StoreError::Broken { .. }));
    assert!(!folder.exists());
}

#[test]
fn a_panel_may_say_of_mounts_what_it_likes() {
    let scene = Scene::empty();
    let mut manifest = manifest(id());
    manifest.metadata.managed_by = ManagedBy::Panel;
    let mount = serde_json::json!({"source": "relative", "target": "../..", "read_only": false});
    manifest.spec.settings.mounts = Some(vec![serde_json::from_value(mount).unwrap()]);
    scene.store.create(manifest, Record::default()).unwrap();
    scene.store.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap();
    assert_eq!(scene.get().problem, None);
    scene.is_the_same_after_a_reboot();
}
