//! Batches, rotation, a failing disk, and the position after a restart.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::file::last_lines;
use super::*;

fn rules(bytes: u64, files: u32) -> Arc<Rules> {
    Arc::new(Rules { max_bytes: bytes, max_files: files, daemon: "[alula Daemon]: ".into(), numbers: Arc::default() })
}

/// A transcript in the folder `logs` of a server's folder.
struct Fixture {
    root: TempDir,
    tasks: Tasks,
    transcript: Transcript,
}

impl Fixture {
    fn new(bytes: u64, files: u32) -> Self {
        let (root, tasks) = (TempDir::new().unwrap(), Tasks::new());
        let transcript = Self::transcript(&tasks, bytes, files);
        Self { root, tasks, transcript }
    }

    fn transcript(tasks: &Tasks, bytes: u64, files: u32) -> Transcript {
        let server = ServerId::new(uuid::Uuid::nil());
        Transcript::new(server, rules(bytes, files), Blocking::Inline, tasks.clone())
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    async fn open(&self, container: &str, resume: bool) -> Vec<u64> {
        self.transcript.open(&self.folder(), container, resume).await
    }

    fn print(&self, lines: &[&str]) {
        for line in lines {
            self.transcript.print(line.as_bytes());
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder().join(name)).ok()
    }

    /// Waits until the writer has ended.
    async fn written(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(self.tasks.running().is_empty());
    }
}

fn hashes(lines: &[&str]) -> Vec<u64> {
    lines.iter().map(|line| line_hash(line.as_bytes())).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn lines_are_written_in_batches() {
    let fixture = Fixture::new(1 << 20, 3);
    assert!(fixture.open("one", false).await.is_empty());
    fixture.print(&["first", "second"]);
    tokio::time::sleep(QUIET / 2).await;
    fixture.transcript.note("third");
    assert!(!fixture.folder().exists(), "nothing is written line by line");
    tokio::time::sleep(QUIET).await;
    assert_eq!(fixture.text(TRANSCRIPT_FILE).unwrap(), "first\nsecond\n[alula Daemon]: third\n");
    assert_eq!(fixture.text(POSITION_FILE).unwrap(), "one 0\n");
    fixture.written().await;
    assert_eq!(lock(&fixture.transcript.shared.state).batch.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flush_and_a_full_buffer_do_not_wait() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.open("one", false).await;
    fixture.print(&["first"]);
    fixture.transcript.flush();
    let began = tokio::time::Instant::now();
    while fixture.text(TRANSCRIPT_FILE).is_none() {
        tokio::task::yield_now().await;
    }
    let long = "x".repeat(FULL);
    fixture.print(&[&long]);
    while fixture.text(TRANSCRIPT_FILE).unwrap().len() < FULL {
        tokio::task::yield_now().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_few_lines_of_the_daemon_wait_for_a_folder() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.transcript.note("pulling the image");
    for _ in 0..1000 {
        fixture.transcript.note("again and again");
    }
    fixture.written().await;
    fixture.open("one", false).await;
    fixture.print(&["booting"]);
    fixture.written().await;
    let text = fixture.text(TRANSCRIPT_FILE).unwrap();
    assert!(text.starts_with("[alula Daemon]: pulling the image\n[alula Daemon]: again"), "{text}");
    assert!(text.ends_with(" lines are missing here: they could not be written to disk\nbooting\n"), "{text}");
    assert!(text.len() < 2 * WAITING_WITHOUT_FOLDER);
    let begin = text.len() - "booting\n".len();
    assert_eq!(fixture.text(POSITION_FILE).unwrap(), format!("one {begin}\n"));
}

#[tokio::test(start_paused = true)]
async fn files_are_rotated_by_size_and_the_oldest_are_removed() {
    let fixture = Fixture::new(10, 3);
    fixture.open("one", false).await;
    for line in ["line 1", "line 2", "line 3", "line 4"] {
        fixture.print(&[line]);
        fixture.written().await;
    }
    assert_eq!(names(&fixture.folder()), [TRANSCRIPT_FILE, "console.log.1", "console.log.2", POSITION_FILE]);
    assert_eq!(fixture.text(TRANSCRIPT_FILE).unwrap(), "line 4\n");
    assert_eq!(fixture.text("console.log.1").unwrap(), "line 3\n");
    assert_eq!(fixture.text("console.log.2").unwrap(), "line 2\n");
    assert_eq!(fixture.text(POSITION_FILE).unwrap(), "one 0\n");

    // Fewer are kept than once were.
    let fewer = Fixture::transcript(&fixture.tasks, 10, 1);
    fewer.open(&fixture.folder(), "one", true).await;
    fewer.print(b"line 5");
    fixture.written().await;
    assert_eq!(names(&fixture.folder()), [TRANSCRIPT_FILE, POSITION_FILE]);
    assert_eq!(fixture.text(TRANSCRIPT_FILE).unwrap(), "line 5\n");
}

#[tokio::test(start_paused = true)]
async fn lines_that_cannot_be_written_are_counted() {
    let fixture = Fixture::new(1 << 20, 3);
    // A folder in the file's place stands for a failing disk.
    fs::create_dir_all(fixture.folder().join(TRANSCRIPT_FILE)).unwrap();
    fixture.open("one", false).await;
    fixture.print(&["lost", "lost too"]);
    fixture.written().await;
    assert!(lock(&fixture.transcript.shared.state).failing);
    fs::remove_dir(fixture.folder().join(TRANSCRIPT_FILE)).unwrap();
    fixture.print(&["kept"]);
    fixture.written().await;
    let gap = "[alula Daemon]: 2 lines are missing here: they could not be written to disk\n";
    assert_eq!(fixture.text(TRANSCRIPT_FILE).unwrap(), format!("{gap}kept\n"));
    assert_eq!(fixture.text(POSITION_FILE).unwrap(), format!("one {}\n", gap.len()));
    assert!(!lock(&fixture.transcript.shared.state).failing);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_loses_lines_and_uses_bounded_memory() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.open("one", false).await;
    let line = "x".repeat(1000);
    for _ in 0..1000 {
        fixture.print(&[&line]);
    }
    assert!(lock(&fixture.transcript.shared.state).batch.len() <= WAITING);
    fixture.written().await;
    let text = fixture.text(TRANSCRIPT_FILE).unwrap();
    assert!(text.len() < WAITING + 200);
    let kept = text.lines().filter(|kept| **kept == line).count();
    let gap = format!("[alula Daemon]: {} lines are missing here", 1000 - kept);
    assert!(text.lines().last().unwrap().starts_with(&gap), "{gap}");
}

#[tokio::test(start_paused = true)]
async fn the_folder_of_a_deleted_server_is_not_created_again() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.open("one", false).await;
    fixture.print(&["last words"]);
    fs::remove_dir(fixture.root.path()).unwrap();
    fixture.written().await;
    assert!(!fixture.root.path().exists());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_all_lines() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.open("one", false).await;
    fixture.print(&["last words"]);
    assert!(fixture.tasks.shutdown(Duration::from_secs(1)).await.is_empty());
    assert_eq!(fixture.text(TRANSCRIPT_FILE).unwrap(), "last words\n");
}

#[tokio::test(start_paused = true)]
async fn a_new_daemon_finds_the_last_lines_of_the_same_container() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.open("old", false).await;
    fixture.print(&["of another life"]);
    fixture.open("one", false).await;
    assert!(fixture.open("one", true).await.is_empty());
    fixture.print(&["a", "b"]);
    fixture.transcript.note("not the container's");
    fixture.print(&["c"]);
    let known = hashes(&["a", "b", "c"]);
    assert_eq!(fixture.open("one", true).await, known, "known without the disk");
    fixture.written().await;

    let later = Fixture::transcript(&fixture.tasks, 1 << 20, 3);
    assert_eq!(later.open(&fixture.folder(), "one", true).await, known);
    later.print(b"d");
    fixture.written().await;
    assert_eq!(
        fixture.text(POSITION_FILE).unwrap(),
        format!("one {}\n", "of another life\n".len()),
        "it goes on where it stood"
    );
    let other = Fixture::transcript(&fixture.tasks, 1 << 20, 3);
    assert!(other.open(&fixture.folder(), "two", true).await.is_empty(), "of another container nothing is known");
}

#[tokio::test(start_paused = true)]
async fn unfinished_lines_get_an_end_and_are_no_anchor() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.open("one", false).await;
    fixture.print(&["a"]);
    fixture.transcript.print_unfinished(b"prompt> ");
    assert_eq!(fixture.open("one", true).await, hashes(&["a"]));
    fixture.written().await;
    assert_eq!(fixture.text(TRANSCRIPT_FILE).unwrap(), "a\nprompt> ");
    assert_eq!(last_lines(&fixture.folder(), "one", &rules(1, 1)).unwrap(), hashes(&["a"]));
    fixture.print(&["b"]);
    fixture.transcript.print_unfinished(b"prompt> ");
    fixture.print(&["c"]);
    fixture.written().await;
    assert_eq!(fixture.text(TRANSCRIPT_FILE).unwrap(), "a\nprompt> \nb\nprompt> \nc\n");
}

#[test]
fn invalid_positions_are_ignored() {
    let root = TempDir::new().unwrap();
    let find = |position: &str, text: &str| {
        fs::write(root.path().join(POSITION_FILE), position).unwrap();
        fs::write(root.path().join(TRANSCRIPT_FILE), text).unwrap();
        last_lines(root.path(), "one", &rules(1, 1))
    };
    assert_eq!(find("one 2\n", "x\na\n"), Some(hashes(&["a"])));
    assert_eq!(find("one 99\n", "x\n"), Some(vec![]), "the note was written, the lines were not");
    for broken in ["", "one", "one x\n", "two 0\n", "\0\0\0"] {
        assert_eq!(find(broken, "a\n"), None, "{broken:?}");
    }
    let many: Vec<String> = (0..20_000).map(|number| format!("line {number}")).collect();
    let last: Vec<&str> = many[20_000 - ANCHOR..].iter().map(String::as_str).collect();
    assert_eq!(find("one 0\n", &(many.join("\n") + "\n")), Some(hashes(&last)));
    assert_eq!(find("one 0\n", &"x".repeat(100_000)), Some(vec![]), "one line without an end");
    fs::remove_file(root.path().join(TRANSCRIPT_FILE)).unwrap();
    assert_eq!(last_lines(root.path(), "one", &rules(1, 1)), None);
}

#[tokio::test(start_paused = true)]
async fn transcripts_are_not_readable_by_others() {
    let fixture = Fixture::new(1 << 20, 3);
    fixture.open("one", false).await;
    fixture.print(&["secret"]);
    fixture.written().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o007;
    assert_eq!(mode(&fixture.folder()), 0);
    assert_eq!(mode(&fixture.folder().join(TRANSCRIPT_FILE)), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_have_one_writer() {
    let (root, tasks) = (TempDir::new().unwrap(), Tasks::new());
    let server = ServerId::new(uuid::Uuid::nil());
    let transcript = Transcript::new(server, rules(1 << 20, 2), Blocking::Pool, tasks.clone());
    let folder = root.path().join("logs");
    transcript.open(&folder, "one", false).await;
    let printers = (0..4).map(|printer| {
        let transcript = transcript.clone();
        tokio::spawn(async move {
            for number in 0..1000 {
                transcript.print(format!("{printer} {number}").as_bytes());
                transcript.flush();
                tokio::task::yield_now().await;
            }
        })
    });
    for printer in printers.collect::<Vec<_>>() {
        printer.await.unwrap();
    }
    assert!(tasks.running().len() <= 1);
    assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
    let text = fs::read_to_string(folder.join(TRANSCRIPT_FILE)).unwrap();
    for printer in 0..4 {
        let own: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("{printer} "))).collect();
        let printed: Vec<_> = (0..1000).map(|number| format!("{printer} {number}")).collect();
        assert_eq!(own, printed);
    }
}
