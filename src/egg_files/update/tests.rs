//! Files of a hostile user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::files::Layout;
use crate::model::ManagedBy;

static RUN: AtomicBool = AtomicBool::new(false);

struct Scene {
    _folder: tempfile::TempDir,
    layout: Layout,
    manifest: Manifest,
    data: PathBuf,
}

impl Scene {
    fn new(configs: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&crate::testing::node_config(&folder.path().canonicalize().unwrap()));
        let mut manifest = Manifest::new("550e8400-e29b-41d4-a716-446655440000".parse().unwrap(), ManagedBy::File);
        manifest.spec.process.configs = serde_json::from_value(configs).unwrap();
        manifest.spec.settings.environment.insert("WORLD".into(), "earth".into());
        layout.prepare(manifest.metadata.uuid).unwrap();
        let data = layout.data(manifest.metadata.uuid);
        Self { _folder: folder, layout, manifest, data }
    }

    fn files(&self) -> EggFiles {
        EggFiles::new(&self.layout, &self.manifest, "172.18.0.1".into())
    }
}

fn properties(file: &str, value: &str) -> Value {
    json!({"parser": "properties", "file": file, "replace": [{"match": "a", "replace_with": value}]})
}

#[test]
fn files_are_created_updated_and_left_alone() {
    let scene = Scene::new(json!([
        properties("new/deep/{{WORLD}}.properties", "1"),
        properties("old.properties", "1"),
        properties("old.properties", "2"),
        {"parser": "properties", "file": "off.properties", "create_file": false, "replace": [{"match": "a", "replace_with": "1"}]},
        {"parser": "sorcery", "file": "x"},
        {"parser": "json", "file": "broken.json", "replace": [{"match": "a", "replace_with": "1"}]},
        {"parser": "file", "file": "empty.cfg"},
    ]));
    fs::write(scene.data.join("old.properties"), "#c\na=0\n").unwrap();
    fs::set_permissions(scene.data.join("old.properties"), fs::Permissions::from_mode(0o4640)).unwrap();
    fs::write(scene.data.join("broken.json"), "{").unwrap();

    let previewed = scene.files().preview(&AtomicBool::new(false));
    assert_eq!(fs::read_to_string(scene.data.join("old.properties")).unwrap(), "#c\na=0\n", "a preview writes nothing");
    let written = scene.files().write(&RUN);
    let diffs: Vec<_> = previewed.iter().map(|change| (change.path.as_str(), change.diff.as_str())).collect();
    assert_eq!(
        diffs,
        [
            ("new/deep/earth.properties", "@@ -0,0 +1 @@\n+a=1\n"),
            ("old.properties", "@@ -1,2 +1,2 @@\n #c\n-a=0\n+a=2\n"),
            ("off.properties", ""),
            ("x", ""),
            ("broken.json", ""),
            ("empty.cfg", ""),
        ]
    );
    assert_eq!(fs::read_to_string(scene.data.join("new/deep/earth.properties")).unwrap(), "a=1\n");
    assert_eq!(fs::read_to_string(scene.data.join("old.properties")).unwrap(), "#c\na=2\n");
    let old = fs::metadata(scene.data.join("old.properties")).unwrap();
    assert_eq!(old.permissions().mode() & 0o7777, 0o640);
    let owner = fs::metadata(&scene.data).unwrap();
    assert_eq!((old.uid(), old.gid()), (owner.uid(), owner.gid()));
    assert!(!scene.data.join("off.properties").exists());
    assert_eq!(fs::read(scene.data.join("empty.cfg")).unwrap(), b"");
    let warned: Vec<_> = written.iter().map(|warning| &warning.path).collect();
    assert_eq!(warned, ["x", "broken.json"]);

    assert_eq!(scene.files().write(&RUN), written);
    assert_eq!(fs::metadata(scene.data.join("old.properties")).unwrap().ino(), old.ino(), "it is not written again");
}

#[test]
fn nothing_outside_of_the_server_is_read_or_written() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.properties"), "a=secret\n").unwrap();
    let absolute = outside.path().join("secret.properties");
    let scene = Scene::new(json!([
        properties("../escape.properties", "1"),
        properties(absolute.to_str().unwrap(), "1"),
        properties("link/secret.properties", "1"),
        properties("link/new.properties", "1"),
        properties("direct.properties", "1"),
        properties("fifo", "1"),
        properties("folder", "1"),
        properties("", "1"),
    ]));
    symlink(outside.path(), scene.data.join("link")).unwrap();
    symlink(&absolute, scene.data.join("direct.properties")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.data.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    fs::create_dir(scene.data.join("folder")).unwrap();
    let warnings = scene.files().write(&RUN);
    let refused: Vec<_> = warnings.iter().map(|warning| warning.path.as_str()).collect();
    // An absolute path begins at the server's directory.
    assert_eq!(
        refused,
        [
            "../escape.properties",
            "link/secret.properties",
            "link/new.properties",
            "direct.properties",
            "fifo",
            "folder",
            ""
        ]
    );
    assert_eq!(fs::read_to_string(&absolute).unwrap(), "a=secret\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(!scene.data.parent().unwrap().join("escape.properties").exists());
    assert!(scene.data.join(absolute.strip_prefix("/").unwrap()).exists());
}

#[test]
fn files_that_are_too_long_stay() {
    let scene = Scene::new(json!([properties("long.properties", "1")]));
    let file = fs::File::create(scene.data.join("long.properties")).unwrap();
    file.set_len(MAX_BYTES as u64 + 1).unwrap();
    let warnings = scene.files().write(&RUN);
    assert!(warnings[0].message.contains("64 MiB"), "{warnings:?}");
    assert_eq!(file.metadata().unwrap().len(), MAX_BYTES as u64 + 1);
}

#[test]
fn a_cancelled_update_ends_before_the_next_file() {
    let scene = Scene::new(json!([properties("a.properties", "1")]));
    assert!(scene.files().write(&AtomicBool::new(true)).is_empty());
    assert!(!scene.data.join("a.properties").exists());
}
