//! Other programs read the archives, and theirs are read.

use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

/// Runs a program in a folder; `None` with a note if the host does not have it.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let run = match Command::new(program).args(arguments).current_dir(folder).env("LC_ALL", "C.UTF-8").output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            return None;
        }
        run => run.unwrap(),
    };
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{program} {arguments:?}: {error}");
    Some(String::from_utf8_lossy(&run.stdout).into_owned())
}

fn tree() -> Server {
    let server = Server::new(None);
    server.put("world/level.dat", "level");
    server.put(&format!("{}/{}", "d".repeat(120), "f".repeat(130)), "deep");
    server.put("odd \u{e4}\nname", "odd");
    server.put("big", vec![3; 5 << 20]);
    fs::create_dir_all(server.path("empty/inner")).unwrap();
    fs::hard_link(server.path("big"), server.path("big too")).unwrap();
    symlink("world/level.dat", server.path("link")).unwrap();
    symlink("t".repeat(150), server.path("long")).unwrap();
    fs::File::open(server.path("big"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5))
        .unwrap();
    server
}

/// Unpacks an archive with another program, and compares what every program must get right.
fn check(program: &str, arguments: &[&str], nanoseconds: bool) {
    let (server, other) = (tree(), Server::new(None));
    fs::write(other.folder.path().join("a.tar.gz"), pack(&server).0).unwrap();
    if run(&other.path(""), program, arguments).is_none() {
        return;
    }
    let (ours, theirs) = (snapshot(&server), snapshot(&other));
    for (name, found) in ours.iter().filter(|(name, _)| !name.starts_with(b"./empty") && name.as_slice() != b".") {
        let other = theirs.get(name).unwrap_or_else(|| panic!("{program}: {} is missing", name.escape_ascii()));
        assert_eq!(found.content, other.content, "{program}: {}", name.escape_ascii());
        assert_eq!(found.same_as, other.same_as, "{program}: {}", name.escape_ascii());
        if found.mode & 0o170_000 == 0o100_000 {
            assert_eq!((found.mode, found.modified.0), (other.mode, other.modified.0), "{program}");
            assert!(!nanoseconds || found.modified.1 == other.modified.1, "{program}: {:?}", other.modified);
        }
    }
}

#[test]
fn gnu_tar_reads_it() {
    check("tar", &["-xzpf", "../a.tar.gz"], true);
}

#[test]
fn busybox_reads_it() {
    check("busybox", &["tar", "-xzpf", "../a.tar.gz"], false);
}

#[test]
fn python_reads_it() {
    check("python3", &["-c", "import tarfile; tarfile.open('../a.tar.gz').extractall('.')"], false);
}

#[test]
fn go_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = r#"package main
import ("archive/tar"; "compress/gzip"; "fmt"; "io"; "os")
func check(err error) { if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) } }
func main() {
	file, err := os.Open("a.tar.gz"); check(err)
	unzip, err := gzip.NewReader(file); check(err)
	archive := tar.NewReader(unzip)
	for {
		header, err := archive.Next()
		if err == io.EOF { break }
		check(err)
		size, err := io.Copy(io.Discard, archive); check(err)
		fmt.Printf("%c %d %d %q %q\n", header.Typeflag, size, header.ModTime.UnixNano(), header.Name, header.Linkname)
	}
	rest, err := io.Copy(io.Discard, unzip); check(err)
	fmt.Println("rest", rest)
}"#;
    fs::write(folder.path().join("main.go"), program).unwrap();
    let server = tree();
    fs::write(folder.path().join("a.tar.gz"), pack(&server).0).unwrap();
    let Some(output) = run(folder.path(), "go", &["run", "main.go"]) else { return };
    assert!(output.contains("0 5242880 1000000000000000005 \"big\" \"\"\n"), "{output}");
    assert!(output.contains("1 0 1000000000000000005 \"big too\" \"big\"\n"), "{output}");
    assert!(output.contains(&format!("\"{}/{}\"", "d".repeat(120), "f".repeat(130))), "{output}");
    assert!(output.contains(&format!("\"long\" \"{}\"", "t".repeat(150))), "{output}");
    // Go Wings fails at directories, and hashes nothing behind the end.
    assert!(!output.lines().any(|line| line.starts_with('5')) && output.ends_with("rest 0\n"), "{output}");
}

#[test]
fn archives_of_other_programs_are_unpacked() {
    for (program, arguments) in [
        ("tar", &["-czf", "../a.tar.gz", "."][..]),
        ("tar", &["-czf", "../a.tar.gz", "--format=posix", "."]),
        ("tar", &["-czf", "../a.tar.gz", "--format=gnu", "."]),
        ("busybox", &["tar", "-czf", "../a.tar.gz", "."]),
        ("python3", &["-c", "import tarfile\nwith tarfile.open('../a.tar.gz', 'w:gz') as archive: archive.add('.')"]),
    ] {
        let (server, after) = (tree(), Server::new(None));
        if run(&server.path(""), program, arguments).is_none() {
            continue;
        }
        let archive = fs::read(server.folder.path().join("a.tar.gz")).unwrap();
        unpack_into(&archive, &after).unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}"));
        let (ours, theirs) = (snapshot(&server), snapshot(&after));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        for (name, found) in &ours {
            let other = &theirs[name];
            assert_eq!((found.mode, &found.content), (other.mode, &other.content), "{}", name.escape_ascii());
            assert_eq!((found.modified.0, &found.same_as), (other.modified.0, &other.same_as));
        }
    }
}
