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
    let message = refused(CONFIG_FILE, &FILE.replace("power: down", "power: sideways"));
    names(&message, &["config.yml", "line 8", "sideways", "up", "down"]);
}

#[test]
fn a_field_with_another_shape_is_found() {
    let message = refused(CONFIG_FILE, &FILE.replace("power: down", "power: {want: down}"));
    names(&message, &["config.yml", "line 8", "spec.power"]);
    let install = FILE.replace("power: down", "install: {token: first}");
    names(&refused(CONFIG_FILE, &install), &["config.yml", "line 8", "spec.install", "token", "version"]);
    let without_script = FILE.replace("power: down", "install: {version: first}");
    names(&refused(CONFIG_FILE, &without_script), &["config.yml", "line 8", "spec.install.version", "spec.script"]);
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
    assert_eq!(scene.manifest().spec.settings.invocation, "./run");
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
    assert_eq!(scene.manifest().spec.settings.invocation, "./run");
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
        let scene = Scene::of_panel();
        scene.saves(file, text);
        scene.store.refresh(id()).unwrap();
        let before = (scene.get(), fs::read_to_string(scene.path(file)).unwrap(), scene.config());
        let error = scene.sync(|manifest| manifest.spec.suspended = true).unwrap_err();
        assert!(matches!(&error, StoreError::Broken { path, .. } if path.ends_with(file)), "{file}: {error}");
        let after = (scene.get(), fs::read_to_string(scene.path(file)).unwrap(), scene.config());
        assert_eq!((after.0.revision, after.1, after.2), (before.0.revision, before.1, before.2), "{file}");
    }
}

#[test]
fn a_request_is_accepted_while_a_file_is_broken_or_missing() {
    type Break = fn(&Scene);
    let breaks: [(&str, Break); 3] = [
        ("config.yml is broken", |scene| scene.saves(CONFIG_FILE, "spec: {")),
        ("override.yml is broken", |scene| scene.saves(OVERRIDE_FILE, "spec: {")),
        ("config.yml is missing", |scene| fs::remove_file(scene.path(CONFIG_FILE)).unwrap()),
    ];
    for (name, break_it) in breaks {
        let scene = Scene::with_file();
        break_it(&scene);
        scene.store.refresh(id()).unwrap();
        let before = scene.get();
        scene.disk.done();
        let after = scene.accepts("second", Verb::Start);
        assert_eq!(scene.disk.done(), [DiskOp::WriteRequests], "{name}: no other file is touched");
        assert_eq!(power(&after), Some(Verb::Restart), "{name}: a start after a stop");
        assert_eq!((&after.manifest, &after.problem), (&before.manifest, &before.problem), "{name}");
        scene.is_the_same_after_a_reboot();

        // The correct file asks for nothing: its values were handled before.
        scene.saves(CONFIG_FILE, FILE);
        scene.saves(OVERRIDE_FILE, "");
        assert!(scene.store.refresh(id()).unwrap(), "{name}");
        assert_eq!(scene.get().requests, after.requests, "{name}");
        assert_eq!(scene.config(), FILE, "{name}");
        scene.is_the_same_after_a_reboot();
    }
}

#[test]
fn a_value_that_changes_while_a_broken_file_is_corrected_is_the_later_request() {
    for (corrected, expected) in [
        (FILE.replace("power: down", "power: up"), Some(Verb::Restart)),
        (FILE.replace("power: down", "power: down\n  restartedAt: monday"), Some(Verb::Kill)),
        (FILE.replace("power: down", "restartedAt: monday"), Some(Verb::Restart)),
        (FILE.replace("  power: down\n", ""), Some(Verb::Kill)),
    ] {
        for reboots in [false, true] {
            let scene = Scene::with_file();
            scene.saves(CONFIG_FILE, "spec: {");
            scene.store.refresh(id()).unwrap();
            scene.accepts("second", Verb::Kill);
            scene.saves(CONFIG_FILE, &corrected);
            let store = if reboots { reopened(scene.root.path()) } else { scene.store.clone() };
            store.refresh(id()).unwrap();
            assert_eq!(power(&store.get(id()).unwrap()), expected, "{corrected}");
            assert!(!store.refresh(id()).unwrap());
        }
    }
}

#[test]
fn the_store_never_writes_what_it_could_not_read() {
    let scene = Scene::of_panel();
    let before = scene.config();
    for (name, edit) in [
        (
            "more text than is read",
            (|manifest: &mut Manifest| manifest.spec.settings.invocation = "x".repeat(2 * 1024 * 1024))
                as fn(&mut Manifest),
        ),
        ("another server's uuid", |manifest| manifest.metadata.uuid = other_id()),
    ] {
        let error = scene.sync(edit).unwrap_err();
        assert!(matches!(error, StoreError::Broken { .. }), "{name}: {error}");
        assert_eq!(scene.config(), before, "{name}");
        assert_eq!(scene.get().problem, None, "{name}");
    }
    let mut new = manifest(other_id());
    new.spec.settings.invocation = "x".repeat(2 * 1024 * 1024);
    let folder = scene.store.folder(new.metadata.uuid);
    assert!(matches!(scene.store.create(new, Record::default(), []).unwrap_err(), StoreError::Broken { .. }));
    assert!(!folder.exists());
}

#[test]
fn a_panel_may_say_of_mounts_what_it_likes() {
    let scene = Scene::empty();
    let mut manifest = manifest(id());
    manifest.metadata.managed_by = ManagedBy::Panel;
    let mount = serde_json::json!({"source": "relative", "target": "../..", "read_only": false});
    manifest.spec.settings.mounts = Some(vec![serde_json::from_value(mount).unwrap()]);
    scene.store.create(manifest, Record::default(), []).unwrap();
    scene.sync(|manifest| manifest.spec.suspended = true).unwrap();
    assert_eq!(scene.get().problem, None);
    scene.is_the_same_after_a_reboot();
}
