//! Files with faults, and where the faults are found.

use std::fs;

use super::*;

const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

fn record(spec: &str) -> String {
    format!("apiVersion: alula/v1\nkind: Server\nmetadata:\n  uuid: {UUID}\nspec:\n{spec}")
}

fn fault_of(name: &str, text: &str) -> Fault {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let finding = check(&path).unwrap();
    assert!(!finding.valid);
    finding.fault.unwrap()
}

#[test]
fn a_fault_has_its_place_its_key_and_a_next_step() {
    let fault = fault_of("a.yml", &record("  power:\n    wnat: up\n"));
    assert_eq!((fault.line, fault.column), (Some(7), Some(5)));
    assert_eq!(fault.key.as_deref(), Some("spec.power.wnat"));
    assert_eq!(fault.help.as_deref(), Some("did you mean `want`?"));
    let line = line("a.yml", &fault);
    assert!(line.starts_with("a.yml:7:5: spec.power.wnat: unknown field `wnat`, expected one of"), "{line}");
}

#[test]
fn a_value_without_sense_has_its_place_too() {
    let fault = fault_of("a.yml", &record("  install:\n    token: ''\n"));
    assert_eq!((fault.line, fault.column), (Some(7), Some(5)));
    assert!(fault.message.contains("spec.install.token is empty"), "{fault:?}");
}

#[test]
fn a_folder_named_by_a_uuid_holds_that_server() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("650e8400-e29b-41d4-a716-446655440000");
    fs::create_dir(&folder).unwrap();
    for (name, valid) in [("config.yml", false), ("other.yml", true)] {
        fs::write(folder.join(name), record("  settings: {container: {image: example/game}}\n")).unwrap();
        assert_eq!(check(&folder.join(name)).unwrap().valid, valid, "{name}");
    }
    let fault = check(&folder.join("config.yml")).unwrap().fault.unwrap();
    assert_eq!(fault.line, Some(4));
}

#[test]
fn an_override_is_read_with_the_file_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("override.yml");
    fs::write(&path, "# mine\nspec:\n  settings:\n    build: {memory_limti: 5}\n").unwrap();
    let alone = check(&path).unwrap_err().to_string();
    assert!(alone.contains("config.yml"), "{alone}");

    fs::write(folder.path().join("config.yml"), record("  settings: {container: {image: example/game}}\n")).unwrap();
    let fault = check(&path).unwrap().fault.unwrap();
    assert_eq!((fault.line, fault.column), (Some(4), Some(13)));
    assert_eq!(fault.help.as_deref(), Some("did you mean `memory_limit`?"));

    fs::write(&path, "spec:\n  settings:\n    mounts: [{source: a, target: /b}]\n").unwrap();
    assert_eq!(check(&path).unwrap().fault.unwrap().line, Some(3));
    fs::write(&path, "spec:\n  suspended: true\n  install: {token: one}\n").unwrap();
    let fault = check(&path).unwrap().fault.unwrap();
    assert_eq!((fault.line, fault.help.as_deref()), (Some(3), Some("write it into config.yml")));

    for text in ["", "# nothing yet\n", "spec: {settings: {build: {memory_limit: 5}}}\n"] {
        fs::write(&path, text).unwrap();
        let finding = check(&path).unwrap();
        assert!(finding.valid && finding.kind == Kind::Override && finding.uuid.is_some(), "{text}");
    }
}

#[test]
fn a_nodes_file_is_known_by_its_keys() {
    let fault = fault_of("config.yml", "remote: ''\napi:\n  port: 99999\n");
    assert_eq!(fault.line, Some(3));
    assert_eq!(fault.key.as_deref(), Some("api.port"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, "system: {root_directory: .}\n").unwrap();
    let finding = check(&path).unwrap();
    assert!(finding.valid && finding.kind == Kind::Node, "{finding:?}");
}

#[test]
fn hostile_files_are_faults_and_no_more() {
    for text in ["", "a: [", "\tkey: 1\n", "kind: Server\nkind: Server\n", "- 1\n", "kind: Server\n---\nkind: Server\n"]
    {
        let fault = fault_of("a.yml", text);
        assert!(!fault.message.is_empty(), "{text:?}");
    }
    let long = record(&format!("  # {}\n", "ü".repeat(1024 * 1024)));
    assert!(fault_of("a.yml", &long).message.contains("too many"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yml");
    fs::write(&path, b"a: \xff\n").unwrap();
    assert!(check(&path).unwrap_err().to_string().contains("UTF-8"));
    assert!(check(&folder.path().join("none.yml")).is_err());
}

#[test]
fn a_folder_stands_for_the_records_in_it() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    assert!(files_in(root.path()).unwrap_err().to_string().contains("no records"));
    fs::create_dir(at("one")).unwrap();
    fs::create_dir(at("two")).unwrap();
    for name in ["b.yml", "a.yaml", ".hidden.yml", "override.yml", "notes.txt", "one/config.yml", "two/other.yml"] {
        fs::write(at(name), "").unwrap();
    }
    assert_eq!(files_in(root.path()).unwrap(), [at("a.yaml"), at("b.yml"), at("one/config.yml")]);
    assert_eq!(files_in(&at("notes.txt")).unwrap(), [at("notes.txt")]);
}
