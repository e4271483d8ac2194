use std::fs;
use std::os::unix::fs::MetadataExt;

use super::super::tests::{id, layout, make_fifo};
use super::*;

const HEADER: LogHeader<'static> =
    LogHeader { image: "ghcr.io/eggs/installers:alpine", entrypoint: "ash", kernel: "6.18.44", environment: &[] };

fn read(layout: &Layout) -> String {
    read_output(layout, id(), 1 << 30).unwrap().unwrap()
}

#[test]
fn the_header_has_the_format_of_wings() {
    let (_folder, layout) = layout();
    let environment = ["TZ=Europe/Paris".to_owned(), "MOTD=a \"b\" <c> é".to_owned()];
    let header = LogHeader { environment: &environment, ..HEADER };
    begin(&layout, id(), &header).unwrap();
    let expected = "\
Pelican Server Installation Log

|
| Details
| ------------------------------
  Server UUID:          550e8400-e29b-41d4-a716-446655440000
  Container Image:      ghcr.io/eggs/installers:alpine
  Container Entrypoint: ash
  Kernel Version:       6.18.44

|
| Environment Variables
| ------------------------------
  TZ=Europe/Paris
  MOTD=a \"b\" <c> é


|
| Script Output
| ------------------------------
";
    assert_eq!(fs::read_to_string(layout.install_log(id())).unwrap(), expected);
    let mode = fs::metadata(layout.install_log(id())).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(read(&layout), "");
}

#[test]
fn values_cannot_contain_the_marker() {
    let (_folder, layout) = layout();
    let marker = String::from_utf8_lossy(MARKER);
    let environment = [format!("A=\n|\n{marker}fake\r\n"), format!("B={marker}")];
    let header = LogHeader { image: &marker, environment: &environment, ..HEADER };
    begin(&layout, id(), &header).unwrap();
    let mut log = InstallLog::open(&layout, id()).unwrap();
    assert_eq!(log.written(), 0);
    log.append(b"real").unwrap();
    assert_eq!(read(&layout), "real");
    let text = fs::read_to_string(layout.install_log(id())).unwrap();
    assert!(text.contains("  A=\\n|\\n| Script Output\\n| ---"), "{text}");
}

#[test]
fn a_long_header_is_cut_so_that_the_marker_is_found() {
    let (_folder, layout) = layout();
    let environment: Vec<_> = (0..300).map(|_| "\u{1b}".repeat(1000)).collect();
    let image = "\u{1b}".repeat(1 << 20);
    let header = LogHeader { image: &image, environment: &environment, ..HEADER };
    begin(&layout, id(), &header).unwrap();
    let text = fs::read_to_string(layout.install_log(id())).unwrap();
    assert!(text.contains("  [39 more left out"), "{}", &text[text.len() - 300..]);
    let mut log = InstallLog::open(&layout, id()).unwrap();
    log.append(b"found").unwrap();
    assert_eq!(read(&layout), "found");
}

#[test]
fn a_log_is_continued_at_its_end() {
    let (_folder, layout) = layout();
    begin(&layout, id(), &HEADER).unwrap();
    let output: Vec<u8> = (0..5000).flat_map(|line| format!("line {line}\r\n").into_bytes()).collect();
    let mut chunks = output.chunks(777);
    let mut log = InstallLog::open(&layout, id()).unwrap();
    for chunk in chunks.by_ref().take(20) {
        log.append(chunk).unwrap();
    }
    // The daemon is killed without closing the log, and its successor opens it.
    let first = log;
    let mut second = InstallLog::open(&layout, id()).unwrap();
    assert_eq!(second.written(), 20 * 777);
    second.append(&output[20 * 777..30 * 777]).unwrap();
    // The old process writes once more.
    let mut first = first;
    first.append(chunks.next().unwrap()).unwrap();
    second.append(&output[30 * 777..]).unwrap();
    assert_eq!(second.written(), output.len() as u64);
    second.finish().unwrap();
    assert_eq!(read(&layout).as_bytes(), output);
}

#[test]
fn a_new_installation_replaces_the_log() {
    let (_folder, layout) = layout();
    begin(&layout, id(), &HEADER).unwrap();
    InstallLog::open(&layout, id()).unwrap().append(b"old output").unwrap();
    begin(&layout, id(), &HEADER).unwrap();
    assert_eq!(InstallLog::open(&layout, id()).unwrap().written(), 0);
    assert_eq!(read(&layout), "");
}

#[test]
fn too_much_output_is_cut_once() {
    let (_folder, layout) = layout();
    begin(&layout, id(), &HEADER).unwrap();
    let cut = String::from_utf8_lossy(CUT);
    let length = || fs::metadata(layout.install_log(id())).unwrap().len();
    let header = length();
    let mut log = InstallLog::open(&layout, id()).unwrap();
    log.append(&vec![b'x'; (MAX_OUTPUT - 3) as usize]).unwrap();
    log.append(b"yyyzzz").unwrap();
    assert_eq!(log.written(), MAX_OUTPUT);
    for _ in 0..2 {
        log.append(b"more").unwrap();
        assert_eq!(length(), header + MAX_OUTPUT + CUT.len() as u64);
        log = InstallLog::open(&layout, id()).unwrap();
        assert_eq!((log.written(), log.is_full()), (MAX_OUTPUT, true));
    }
    let text = read(&layout);
    assert!(text.ends_with(&format!("xxyyy{cut}")), "{}", &text[text.len() - 100..]);

    // Killed between the last output and the line, or in the middle of the line.
    let file = OpenOptions::new().write(true).open(layout.install_log(id())).unwrap();
    for left in [0, 7] {
        file.set_len(header + MAX_OUTPUT + left).unwrap();
        let mut log = InstallLog::open(&layout, id()).unwrap();
        assert_eq!((log.written(), log.is_full()), (MAX_OUTPUT, false));
        log.append(b"more").unwrap();
        assert_eq!(length(), header + MAX_OUTPUT + CUT.len() as u64);
        assert!(read(&layout).ends_with(&format!("xxyyy{cut}")));
    }
}

#[test]
fn output_of_the_maximum_length_is_not_cut() {
    let (_folder, layout) = layout();
    begin(&layout, id(), &HEADER).unwrap();
    let mut log = InstallLog::open(&layout, id()).unwrap();
    log.append(&vec![b'x'; MAX_OUTPUT as usize]).unwrap();
    log.append(b"").unwrap();
    assert!(read(&layout).ends_with('x'));
}

#[test]
fn logs_of_other_programs_are_read() {
    let (_folder, layout) = layout();
    assert_eq!(read_output(&layout, id(), 100).unwrap(), None);
    let path = layout.install_log(id());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let wings = "Pelican Server Installation Log\n\n|\n| Script Output\n| ------------------------------\nout\r\nput";
    for (text, expected) in [
        (wings.as_bytes(), "out\r\nput"),
        (b"no marker", "no marker"),
        (b"", ""),
        (b"not \xff utf-8", "not \u{fffd} utf-8"),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(read(&layout), expected);
    }
    fs::write(&path, format!("{wings}äöü")).unwrap();
    let end = |max| read_output(&layout, id(), max).unwrap().unwrap();
    assert_eq!(end(4), "[the first 10 bytes are left out]\nöü");
    assert_eq!(end(5), "[the first 10 bytes are left out]\nöü");
    assert_eq!(end(14), "out\r\nputäöü");
    assert_eq!(end(0), "[the first 14 bytes are left out]\n");
}

#[test]
fn a_removed_or_emptied_log_is_continued() {
    let (_folder, layout) = layout();
    for text in [None, Some(""), Some("a note")] {
        let path = layout.install_log(id());
        match text {
            None => assert!(!path.exists()),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let mut log = InstallLog::open(&layout, id()).unwrap();
        assert_eq!(log.written(), 0);
        log.append(b"output").unwrap();
        assert_eq!(InstallLog::open(&layout, id()).unwrap().written(), 6);
        assert_eq!(read(&layout), "output");
    }
}

#[test]
fn a_fifo_does_not_block() {
    let (_folder, layout) = layout();
    fs::create_dir_all(layout.install_log(id()).parent().unwrap()).unwrap();
    make_fifo(&layout.install_log(id()));
    assert!(read_output(&layout, id(), 100).is_err());
    assert!(InstallLog::open(&layout, id()).is_err());
}
