use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::symlink;

use super::super::tests::{Outside, make_fifo, while_swapping};
use super::*;

fn resolvers() -> Vec<Resolver> {
    let mut all = vec![Resolver::Names];
    all.extend(Some(Resolver::Kernel).filter(|_| Resolver::available() == Resolver::Kernel));
    all
}

fn read(root: &Root, path: &str) -> Result<String, Errno> {
    let opened = root.open_file(Path::new(path), OFlags::RDONLY, Mode::empty());
    let mut text = String::new();
    let errno = |error: &io::Error| Errno::from_io_error(error).unwrap_or(Errno::INVAL);
    let file = File::from(opened.map_err(|error| errno(&error))?);
    let limit = 100;
    match file.take(limit).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(errno(&error)),
    }
}

fn tree(outside: &Outside) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("dir/sub")).unwrap();
    fs::write(path.join("file"), "top").unwrap();
    fs::write(path.join("dir/file"), "in dir").unwrap();
    fs::write(path.join("dir/sub/file"), "in sub").unwrap();
    symlink("dir", path.join("to-dir")).unwrap();
    symlink("file", path.join("to-file")).unwrap();
    symlink(outside.path(), path.join("out")).unwrap();
    symlink("../../../../../../../../etc", path.join("up")).unwrap();
    symlink("/proc/self/root", path.join("magic")).unwrap();
    make_fifo(&path.join("fifo"));
    folder
}

#[test]
fn paths_stay_below_the_root() {
    let outside = Outside::new();
    let folder = tree(&outside);
    for resolver in resolvers() {
        let root = Root::open_with(folder.path(), resolver).unwrap();
        for (path, expected) in [
            ("file", Ok("top")),
            ("/file", Ok("top")),
            ("./dir//./file", Ok("in dir")),
            ("dir/sub/../../file", Ok("top")),
            ("dir/file/../sub/file", Ok("in sub")),
            ("nothing", Err(Errno::NOENT)),
            ("file/below", Err(Errno::NOTDIR)),
            ("", Err(Errno::ISDIR)),
            ("dir", Err(Errno::ISDIR)),
            ("..", Err(Errno::INVAL)),
            ("../x", Err(Errno::INVAL)),
            ("/../../etc/passwd", Err(Errno::INVAL)),
            ("dir/../../x", Err(Errno::INVAL)),
            ("fi\0le", Err(Errno::INVAL)),
            ("to-file", Err(Errno::LOOP)),
            ("out", Err(Errno::LOOP)),
            ("fifo", Ok("")),
        ] {
            let found = read(&root, path);
            assert_eq!(found, expected.map(String::from), "{path:?} by {resolver:?}");
        }
        for path in ["out/file", "up/passwd", "magic/etc/passwd"] {
            let expected = match resolver {
                Resolver::Kernel => Errno::XDEV,
                Resolver::Names => Errno::NOTDIR,
            };
            assert_eq!(read(&root, path), Err(expected), "{path:?} by {resolver:?}");
        }
        let by_link = read(&root, "to-dir/sub/file");
        match resolver {
            Resolver::Kernel => assert_eq!(by_link, Ok("in sub".into())),
            Resolver::Names => assert_eq!(by_link, Err(Errno::NOTDIR)),
        }
    }
    outside.assert_untouched();
}

#[test]
fn the_parent_of_a_path_is_opened_below_the_root() {
    let outside = Outside::new();
    let folder = tree(&outside);
    for resolver in resolvers() {
        let root = Root::open_with(folder.path(), resolver).unwrap();
        let (parent, name) = root.open_parent(Path::new("/dir/x/../new")).unwrap();
        assert_eq!(name, Path::new("new"));
        rustix::fs::mkdirat(&parent, &name, Mode::RWXU).unwrap();
        assert!(folder.path().join("dir/new").is_dir());
        fs::remove_dir(folder.path().join("dir/new")).unwrap();
        for path in ["", "/", ".", "dir/.."] {
            let error = root.open_parent(Path::new(path)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
        }
        assert!(root.open_parent(Path::new("out/new")).is_err());
        assert!(root.open_directory(Path::new("out")).is_err());
        assert!(root.open_directory(Path::new("dir/sub")).is_ok());
    }
}

#[test]
fn swapped_links_do_not_lead_outside() {
    let outside = Outside::new();
    let folder = tree(&outside);
    let (directory, link) = (folder.path().join("dir"), folder.path().join("out"));
    for resolver in resolvers() {
        let root = Root::open_with(folder.path(), resolver).unwrap();
        let mut inside = 0;
        while_swapping(&directory, &link, || {
            for _ in 0..20_000 {
                match read(&root, "dir/file") {
                    Ok(text) => {
                        assert_eq!(text, "in dir");
                        inside += 1;
                    }
                    Err(error) => assert_ne!(error, Errno::NOENT),
                }
            }
        });
        assert!(inside > 0, "{resolver:?}: never saw the directory");
        // Restore the tree for the next resolver.
        if directory.is_symlink() {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(CWD, &directory, CWD, &link, flags).unwrap();
        }
    }
}

#[test]
fn only_directories_on_the_same_mount_are_children() {
    let outside = Outside::new();
    let folder = tree(&outside);
    for resolver in resolvers() {
        let root = Root::open_with(folder.path(), resolver).unwrap();
        assert!(open_child(resolver, root.as_fd(), c"dir").is_ok());
        for name in [c"file", c"fifo", c"out", c"to-dir"] {
            let errno = open_child(resolver, root.as_fd(), name).unwrap_err();
            assert!(matches!(errno, Errno::NOTDIR | Errno::LOOP), "{name:?}: {errno}");
        }
        let host = Root::open_with(Path::new("/"), resolver).unwrap();
        let errno = open_child(resolver, host.as_fd(), c"proc").unwrap_err();
        assert_eq!(errno, Errno::XDEV, "{resolver:?}");
    }
}
