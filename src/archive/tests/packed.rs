//! What is compressed.

use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use strum::VariantArray;

use super::*;

/// A directory with something of everything.
fn fill(server: &Server) {
    server.put("folder/a.txt", "a");
    server.put("folder/big", vec![7; 2_000_000]);
    server.put("folder/run.sh", "#!");
    server.put("left-out", "x");
    fs::set_permissions(server.path("folder/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(server.path("folder/empty")).unwrap();
    fs::set_permissions(server.path("folder/empty"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("a.txt", server.path("folder/link")).unwrap();
    symlink(format!("/{}/far", "x".repeat(200)), server.path("folder/long")).unwrap();
    fs::hard_link(server.path("folder/a.txt"), server.path("folder/same")).unwrap();
    server.put(&format!("folder/{}/n", "d".repeat(150)), "deep");
    server.put("folder/new\nline \\ ü ☃", "odd");
    rustix::fs::mkfifoat(rustix::fs::CWD, server.path("folder/pipe"), rustix::fs::Mode::RUSR).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    for name in ["folder/a.txt", "folder/empty"] {
        fs::File::open(server.path(name)).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn what_is_compressed_is_unpacked_the_same() {
    for format in Format::VARIANTS {
        let server = Server::new(Some(100 << 20));
        fill(&server);
        let before = fs::metadata(server.path("folder/a.txt")).unwrap();
        let packed = server.compress(&["folder"], *format).unwrap();
        let name = packed.name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, format!("packed{}", format.extension()));
        assert_eq!(server.tree.account().used(), fs::metadata(server.path(&name)).unwrap().len());
        assert_eq!(mode(&server.path(&name)), 0o644);
        fs::remove_file(server.path("folder/pipe")).unwrap();
        let expected = server.content();
        fs::remove_dir_all(server.path("folder")).unwrap();
        server.extract(&name, "").unwrap();
        assert!(server.content() == expected, "{format:?}: {:?}", server.content().keys());
        let after = fs::metadata(server.path("folder/a.txt")).unwrap();
        assert_eq!(after.modified().unwrap(), before.modified().unwrap(), "{format:?}");
        assert_eq!(mode(&server.path("folder/run.sh")), 0o755);
        assert_eq!(mode(&server.path("folder/empty")), 0o711);
        let empty = fs::metadata(server.path("folder/empty")).unwrap();
        assert_eq!(empty.modified().unwrap(), before.modified().unwrap(), "{format:?}");
        if *format != Format::Zip {
            let same = fs::metadata(server.path("folder/same")).unwrap();
            assert_eq!(same.ino(), after.ino(), "{format:?}");
        }
        server.assert_confined();
    }
}

#[test]
fn names_in_the_archive_are_relative_to_its_directory() {
    let server = Server::new(None);
    server.put("one/two/a.txt", "a");
    server.put("one/b.txt", "b");
    symlink("two", server.path("one/link")).unwrap();
    let what = Compression {
        directory: path("one"),
        names: ["two/a.txt", "b.txt", "link/a.txt"].map(Into::into).to_vec(),
        format: Format::TarGz,
        level: 1,
    };
    let names = archive_names(OsStr::new("x"), Format::TarGz, "now");
    let packed = compress(&server.tree, &what, names, None, &Progress::new()).unwrap();
    assert_eq!(packed, path("one/x.tar.gz"));
    server.extract("one/x.tar.gz", "out").unwrap();
    let content = server.content();
    for (name, text) in [("out/two/a.txt", "a"), ("out/b.txt", "b"), ("out/link/a.txt", "a")] {
        assert_eq!(content[name], file(text), "{name}");
    }
}

#[test]
fn an_archive_replaces_nothing() {
    let server = Server::new(None);
    server.put("a.txt", "a");
    let names: Vec<_> = (0..3).map(|_| server.compress(&["a.txt"], Format::Zip).unwrap()).collect();
    assert_eq!(names, ["packed.zip", "packed copy.zip", "packed copy 1.zip"].map(path));
}

#[test]
fn an_archive_does_not_contain_itself() {
    let server = Server::new(None);
    server.put("a.txt", "a");
    server.compress(&["."], Format::TarGz).unwrap();
    server.extract("packed.tar.gz", "out").unwrap();
    let content = server.content();
    let names: Vec<&str> = content.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.txt", "out", "out/a.txt", "packed.tar.gz"]);
}

#[test]
fn what_cannot_be_compressed() {
    let server = Server::with_denylist(None, &["secret.txt"]);
    server.put("a.txt", "a");
    server.put("secret.txt", "s");
    server.put("deep/secret.txt", "s");
    server.put("deep/plain", "p");
    let result = server.compress(&["a.txt", "nope"], Format::Zip);
    assert!(matches!(result, Err(ArchiveError::Tree(crate::files::tree::TreeError::NotFound(_)))), "{result:?}");
    let result = server.compress(&["secret.txt"], Format::Zip);
    assert!(matches!(result, Err(ArchiveError::NothingToCompress)), "{result:?}");
    assert_eq!(server.content().len(), 5, "no archive is left");
    server.compress(&["a.txt", "secret.txt", "deep"], Format::Zip).unwrap();
    server.extract("packed.zip", "out").unwrap();
    let content = server.content();
    let names: Vec<&str> = content.keys().map(String::as_str).filter(|name| name.starts_with("out/")).collect();
    assert_eq!(names, ["out/a.txt", "out/deep", "out/deep/plain"]);
}

#[test]
fn an_archive_beyond_the_limit_is_removed() {
    let noise: Vec<u8> = (0..800_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for format in Format::VARIANTS {
        let server = Server::new(Some(100));
        server.put("noise", &noise);
        let result = server.compress(&["noise"], *format);
        assert!(matches!(result, Err(ArchiveError::NoSpace)), "{format:?}: {result:?}");
        assert_eq!(server.content().len(), 1);
        assert_eq!(server.tree.account().used(), 0);
    }
}

#[test]
fn a_cancelled_archive_is_removed() {
    let server = Server::new(None);
    server.put("a", "a");
    let progress = Progress::new();
    progress.cancel();
    let what = Compression { directory: path(""), names: vec!["a".into()], format: Format::Zip, level: 1 };
    let names = archive_names(OsStr::new("x"), Format::Zip, "now");
    let result = compress(&server.tree, &what, names, None, &progress);
    assert!(matches!(result, Err(ArchiveError::Cancelled)), "{result:?}");
    assert_eq!(server.content().len(), 1);
}

#[test]
fn progress_counts_the_content() {
    let server = Server::new(None);
    server.put("d/a", vec![1; 100_000]);
    server.put("d/b", vec![2; 50_000]);
    let progress = Progress::new();
    let what = Compression { directory: path(""), names: vec!["d".into()], format: Format::TarGz, level: 1 };
    let names = archive_names(OsStr::new("x"), Format::TarGz, "now");
    compress(&server.tree, &what, names, None, &progress).unwrap();
    assert_eq!((progress.done(), progress.total()), (150_000, 150_000));
    let progress = Progress::new();
    extract(&server.tree, &path("x.tar.gz"), &path("out"), &progress).unwrap();
    assert_eq!(progress.fraction(), 1.0);
}
