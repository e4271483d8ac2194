//! Invalid files, and the positions of their faults.

use std::fs;

use super::*;

const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

fn manifest(spec: &str) -> String {
    format!("apiVersion: alula/v1\nkind: Server\nmetadata:\n  uuid: {UUID}\nspec:\n{spec}")
}

fn fault_of(name: &str, text: &str) -> YamlError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let finding = check(&path);
    assert!(!finding.valid);
    finding.fault.unwrap()
}

#[test]
fn a_fault_has_position_key_and_advice() {
    let fault = fault_of("a.yml", &manifest("  install:\n    verison: one\n"));
    assert_eq!((fault.line, fault.column), (Some(7), Some(5)));
    assert_eq!(fault.path.as_deref(), Some("spec.install.verison"));
    assert_eq!(fault.help.as_deref(), Some("did you mean `version`?"));
    let line = line_for("a.yml", &fault);
    assert!(line.starts_with("a.yml:7:5: spec.install.verison: unknown field `verison`, expected one of"), "{line}");
}

#[test]
fn all_values_that_break_a_rule_are_listed() {
    let spec = "  process: {stop: {type: sginal}, startup: {done: ['regex:(', 'regex:[', 'regex:a']}}\n  settings:\n    \
                environment: {A: [1], B: {c: d}, C: x}\n    container: {image: 'Example/Image:1'}\n    \
                build: {memory_limit: -1, cpu_limit: -5, io_weight: 5}\n    mounts: [{source: a, target: /a}, {source: /b, target: b}]\n    \
                allocations: {default: {ip: nowhere, port: 70000}, mappings: {here: [0, 1]}}\n";
    let folder = tempfile::tempdir().unwrap();
    let faults = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let finding = check(&path);
        let lines: Vec<_> = finding.fault.iter().chain(&finding.more).map(|fault| fault.line.unwrap()).collect();
        lines
    };
    assert_eq!(
        faults("a.yml", &manifest(spec)),
        [8, 8, 11, 11, 9, 12, 12, 12, 12, 10, 10, 10, 6, 6, 6],
        "in the order of the rules"
    );

    // An override is checked as a whole, too, with its own lines.
    fs::write(folder.path().join("config.yml"), manifest("  settings: {container: {image: 'a:1'}}\n")).unwrap();
    let patch = "spec:\n  settings:\n    build:\n      memory_limit: -1\n      cpu_limit: -5\n";
    assert_eq!(faults("override.yml", patch), [4, 5]);
    let patch = "spec:\n  suspended: maybe\n  settings:\n    build:\n      memory_limit: lots\n";
    assert_eq!(faults("override.yml", patch), [5, 2], "in the order of the fields");
}

#[test]
fn all_mistakes_of_a_manifest_are_listed() {
    let text = manifest(
        "  power: {id: null}\n  suspended: maybe\n  settings:\n    build: {memory_limit: lots, memory_limti: 5, swap: 1}\n    \
         mounts: [{source: /a}]\n    container: {image: null}\n  install: {verison: x}\n",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yml");
    fs::write(&path, text).unwrap();
    let finding = check(&path);
    let faults: Vec<_> = finding
        .fault
        .iter()
        .chain(&finding.more)
        .map(|fault| (fault.line.unwrap(), fault.path.clone().unwrap()))
        .collect();
    for (line, key) in [
        (6, "spec.power"),
        (7, "spec.suspended"),
        (9, "spec.settings.build.memory_limit"),
        (9, "spec.settings.build.memory_limti"),
        (10, "spec.settings.mounts[0]"),
        (11, "spec.settings.container.image"),
        (12, "spec.install.verison"),
    ] {
        assert!(faults.contains(&(line, key.to_owned())), "{line} {key}: {faults:?}");
    }
    assert_eq!(faults.len(), 7, "{faults:?}");
}

#[test]
fn an_invalid_value_has_a_position() {
    let fault = fault_of("a.yml", &manifest("  install:\n    version: '1'\n"));
    assert_eq!((fault.line, fault.column), (Some(7), Some(5)));
    assert!(fault.message.contains("no spec.script to run"), "{fault:?}");
}

#[test]
fn a_variable_that_is_a_list_or_a_map_has_a_position() {
    for (value, kind) in [("[1]", "a list"), ("{A: b}", "a map"), ("[]", "a list")] {
        let fault =
            fault_of("a.yml", &manifest(&format!("  settings:\n    environment:\n      A: 1\n      D: {value}\n")));
        assert_eq!((fault.line, fault.column), (Some(9), Some(7)), "{fault:?}");
        assert!(fault.message.contains(&format!("spec.settings.environment.D is {kind}")), "{fault:?}");
    }
}

#[test]
fn two_files_of_one_server_are_a_fault_of_the_second() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yml", "b.yml"] {
        fs::write(folder.path().join(name), manifest("  settings: {container: {image: 'a:1'}}\n")).unwrap();
    }
    let mut findings: Vec<Finding> = files_in(folder.path()).unwrap().iter().map(|file| check(file)).collect();
    reject_duplicates(&mut findings);
    assert_eq!(findings.iter().map(|finding| finding.valid).collect::<Vec<_>>(), [true, false]);
    let fault = findings[1].fault.as_ref().unwrap();
    assert!(fault.message.contains("a.yml is a manifest of the same server"), "{fault:?}");
}

#[test]
fn a_text_that_is_no_duration_has_its_own_position() {
    let timeout =
        |value: &str| fault_of("a.yml", &manifest(&format!("  install:\n    version: x\n    timeout: {value}\n")));
    for value in ["300", "soon", "-1h"] {
        let fault = timeout(value);
        assert_eq!(
            (fault.line, fault.column, fault.path.as_deref()),
            (Some(8), Some(14), Some("spec.install.timeout"))
        );
        let message =
            format!("expected a span of time with its unit, such as 90s, 5m or 1h, found the text \"{value}\"");
        assert_eq!(fault.message, message);
    }
}

#[test]
fn a_manifest_belongs_to_the_folder_named_by_its_uuid() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("650e8400-e29b-41d4-a716-446655440000");
    fs::create_dir(&folder).unwrap();
    for (name, valid) in [("config.yml", false), ("other.yml", true)] {
        fs::write(folder.join(name), manifest("  settings: {container: {image: example/game}}\n")).unwrap();
        assert_eq!(check(&folder.join(name)).valid, valid, "{name}");
    }
    let fault = check(&folder.join("config.yml")).fault.unwrap();
    assert_eq!(fault.line, Some(4));
}

#[test]
fn an_override_is_checked_with_the_manifest_that_it_patches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("override.yml");
    fs::write(&path, "# mine\nspec:\n  settings:\n    build: {memory_limti: 5}\n").unwrap();
    let alone = check(&path).fault.unwrap().message;
    assert!(alone.contains("config.yml") && alone.contains("same folder"), "{alone}");

    fs::write(folder.path().join("config.yml"), manifest("  settings: {container: {image: example/game}}\n")).unwrap();
    let fault = check(&path).fault.unwrap();
    assert_eq!((fault.line, fault.column), (Some(4), Some(13)));
    assert_eq!(fault.help.as_deref(), Some("did you mean `memory_limit`?"));

    fs::write(&path, "spec:\n  settings:\n    mounts: [{source: a, target: /b}]\n").unwrap();
    assert_eq!(check(&path).fault.unwrap().line, Some(3));

    for text in
        ["", "# empty\n", "spec: {power: up, restartedAt: '1'}\n", "spec: {settings: {build: {memory_limit: 5}}}\n"]
    {
        fs::write(&path, text).unwrap();
        let finding = check(&path);
        assert!(finding.valid && finding.kind == Kind::Override && finding.uuid.is_some(), "{text}");
    }
}

#[test]
fn the_keys_of_a_file_identify_a_nodes_configuration() {
    let fault = fault_of("config.yml", "remote: ''\napi:\n  port: 99999\n");
    assert_eq!(fault.line, Some(3));
    assert_eq!(fault.path.as_deref(), Some("api.port"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, "system: {root_directory: .}\n").unwrap();
    let finding = check(&path);
    assert!(finding.valid && finding.kind == Kind::Node, "{finding:?}");
}

#[test]
fn malformed_files_are_faults() {
    for text in ["", "a: [", "\tkey: 1\n", "kind: Server\nkind: Server\n", "- 1\n", "kind: Server\n---\nkind: Server\n"]
    {
        let fault = fault_of("a.yml", text);
        assert!(!fault.message.is_empty(), "{text:?}");
    }
    let long = manifest(&format!("  # {}\n", "ü".repeat(1024 * 1024)));
    assert!(fault_of("a.yml", &long).message.contains("too many"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yml");
    fs::write(&path, b"a: \xff\n").unwrap();
    assert!(check(&path).fault.unwrap().message.contains("UTF-8"));
    assert!(!check(&folder.path().join("none.yml")).valid);
}

#[test]
fn a_folder_stands_for_what_a_node_would_read_in_it() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    assert!(files_in(root.path()).unwrap_err().to_string().contains("no files"));
    let server = format!("servers/{UUID}");
    for folder in ["one", "two", &server] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    let (config, changes) = (format!("{server}/config.yml"), format!("{server}/override.yml"));
    for name in ["b.yml", "a.yaml", ".hidden.yml", "notes.txt", "one/config.yml", "two/other.yml", &config, &changes] {
        fs::write(at(name), "").unwrap();
    }
    fs::write(at(&format!("{server}/status.yml")), "").unwrap();
    let expected = [at("a.yaml"), at("b.yml"), at("one/config.yml"), at(&config), at(&changes)];
    assert_eq!(files_in(root.path()).unwrap(), expected);
    assert_eq!(files_in(&at("servers")).unwrap(), [at(&config), at(&changes)]);
    assert_eq!(files_in(&at(&server)).unwrap(), [at(&config), at(&changes)], "the status is no part of the manifest");
    assert_eq!(files_in(&at("notes.txt")).unwrap(), [at("notes.txt")]);
}

#[test]
fn the_folder_of_a_config_yml_decides_its_kind() {
    let of_server = format!("/x/servers/{UUID}/config.yml");
    for (path, text, kind) in [
        ("/x/config.yml", "", Kind::Node),
        ("/x/config.yml", "sytem: {}\n", Kind::Node),
        ("/x/config.yml", "kind: Server\n", Kind::Server),
        ("/x/config.yml", "kind: Server\nspec: [\n", Kind::Server),
        (&of_server, "", Kind::Server),
        (&of_server, "system: {}\n", Kind::Server),
        ("/x/node.yml", "system: {}\n", Kind::Node),
        ("/x/other.yml", "", Kind::Server),
        ("-", "system: {}\n", Kind::Server),
        ("/x/override.yml", "", Kind::Override),
    ] {
        assert_eq!(kind_of(Path::new(path), text), kind, "{path}: {text:?}");
    }
}
