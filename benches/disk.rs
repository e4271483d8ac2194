//! The cost of measuring a server's files: `cargo bench --bench disk`. The baseline is `du`, in the same run.

#[path = "node/table.rs"]
#[allow(dead_code)]
mod table;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alula::files::Layout;
use alula::testing::{node_config, server_id};
use table::{Table, load, millis};

const FOLDERS: usize = 100;
const FILES: usize = 1000;
const REPEATS: usize = 9;

fn main() {
    let root = tempfile::tempdir().expect("a folder");
    let (layout, id) = (Layout::new(&node_config(root.path())), server_id(1));
    layout.prepare_node().and_then(|()| layout.prepare(id)).expect("a server");
    let data = layout.data(id);
    for folder in 0..FOLDERS {
        let folder = data.join(format!("world/{folder}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        (0..FILES).for_each(|file| std::fs::write(folder.join(format!("r.{file}.mca")), [7; 100]).expect("a file"));
    }
    let (mut ours, mut baseline) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let before = own_cpu();
        let usage = layout.usage(id, &AtomicBool::new(false)).expect("a count");
        ours.push(own_cpu() - before);
        assert_eq!(usage.bytes, (FOLDERS * FILES * 100) as u64);
        baseline.push(du(&data));
    }
    let (ours, baseline) = (median(ours), median(baseline));
    let mut table = Table::default();
    table.row(
        "usage of 100,000 files, CPU",
        format!("{:.0} ms", millis(ours)),
        format!("du {:.0} ms; load {}", millis(baseline), load()),
        "140 ms, or that of du".into(),
        ours <= Duration::from_millis(140) || ours <= baseline,
    );
    table.print();
}

/// CPU time of this thread.
fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

/// CPU time of `du`.
fn du(path: &Path) -> Duration {
    let script = "TIMEFORMAT='%U %S'; time du -s --apparent-size \"$0\" >/dev/null";
    let ended = Command::new("bash").args(["-c", script]).arg(path).stdout(Stdio::null()).output().expect("bash");
    let text = String::from_utf8_lossy(&ended.stderr).replace(',', ".");
    Duration::from_secs_f64(text.split_whitespace().filter_map(|part| part.parse::<f64>().ok()).sum())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}
