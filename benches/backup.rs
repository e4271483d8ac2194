//! The cost of backups: `cargo bench --bench backup`. Makes the archive of a server of 600 MiB, with 20,000 small files and five big
//! ones, and restores it into an empty directory. The floor is measured in the same run: `tar` with `pigz`, at the same level. Then a
//! game runs beside backups with a limit of their rate: its longest tick, compared with that of the game alone.
//!
//! `cargo bench --bench backup -- ticks` measures the game only.
//!
//! Everything is on one file system, in the folder for temporary files.

#[path = "node/cost.rs"]
mod cost;
#[path = "node/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "node/table.rs"]
#[allow(dead_code)]
mod table;
#[path = "node/ticks.rs"]
mod ticks;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula::archive::backup::{Hashes, IgnoreList, UnpackOptions, WriteOptions, unpack, verify, write};
use alula::files::account::DiskAccount;
use alula::files::denylist::Denylist;
use alula::files::tree::Tree;
use alula::files::{Background, Root};
use alula::progress::Progress;
use alula::rate::Rate;
use cost::{Cost, Random, measure, shell};

/// "best_speed", the default of Wings.
const LEVEL: u32 = 1;
const REPEATS: usize = 3;
const MIB: usize = 1 << 20;
/// `system.backups.write_limit` beside the game, in bytes per second.
const RATE: u64 = 20 << 20;
const SHA1: Hashes = Hashes { sha1: true, sha256: false };

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fill(&at("server"));
    let mut table = table::Table::default();
    if !std::env::args().any(|argument| argument == "ticks") {
        costs(folder.path(), &mut table);
    }
    beside_a_game(folder.path(), &mut table);
    table.print();
}

fn costs(folder: &Path, table: &mut table::Table) {
    let at = |name: &str| folder.join(name);
    let has_pigz = std::process::Command::new("pigz").arg("--version").output().is_ok();
    let [mut made, mut restored, mut verified, mut pigz, mut unpigz] = [const { Vec::new() }; 5];
    for _ in 0..REPEATS {
        if has_pigz {
            pigz.push(shell(folder, &format!("tar -c -C server . | pigz -{LEVEL} > floor.tar.gz")));
            unpigz.push(shell(folder, "mkdir floor && pigz -dc floor.tar.gz | tar -x -C floor"));
            fs::remove_dir_all(at("floor")).expect("a folder");
        }
        made.push(measure(|| make(&at("server"), &at("ours.tar.gz"), None)));
        fs::create_dir(at("restored")).expect("a folder");
        restored.push(measure(|| restore(&at("ours.tar.gz"), &at("restored"))));
        fs::remove_dir_all(at("restored")).expect("a folder");
        verified.push(measure(|| check(&at("ours.tar.gz"))));
        let size = |name: &str| fs::metadata(at(name)).map_or(0, |found| found.len()) / MIB as u64;
        eprintln!("{} MiB (pigz: {} MiB)", size("ours.tar.gz"), size("floor.tar.gz"));
    }
    for (what, ours, floor, target) in
        [("make", &made, &pigz, 2.5), ("restore", &restored, &unpigz, 2.2), ("verify", &verified, &unpigz, 2.2)]
    {
        let median = |costs: &[Cost], of: fn(&Cost) -> f64| table::median(costs.iter().map(of).collect());
        let cpu = median(ours, |cost| cost.cpu);
        let floor_cpu = format!("{:.2} s", median(floor, |cost| cost.cpu));
        table.row(&format!("{what}, CPU"), format!("{cpu:.2} s"), floor_cpu, format!("{target} s"), cpu <= target);
        let (wall, floor_wall) = (median(ours, |cost| cost.wall), median(floor, |cost| cost.wall));
        let met = floor_wall.is_nan() || wall < floor_wall * 1.2;
        table.row(
            &format!("{what}, wall"),
            format!("{wall:.2} s"),
            format!("{floor_wall:.2} s"),
            "about the same".into(),
            met,
        );
        let peak = median(ours, |cost| cost.memory);
        let row = format!("{what}, memory above idle");
        table.row(&row, format!("{peak:.1} MiB"), String::new(), "48 MiB".into(), peak <= 48.0);
    }
}

/// The work of a backup's job, as the daemon runs it.
fn beside_a_game(folder: &Path, table: &mut table::Table) {
    let rate = Rate::new(Some(RATE));
    let longest = ticks::measure(folder, || {
        let _background = Background::begin();
        make(&folder.join("server"), &folder.join("beside.tar.gz"), Some(&|bytes| rate.take_blocking(bytes)));
    });
    let (alone, beside) = (table::median(longest.alone.clone()), table::median(longest.beside.clone()));
    let text = |worst: f64, all: &[f64]| format!("{worst:.1} ms ({})", table::spread(all, 1));
    let (ours, floor) = (text(beside, &longest.beside), text(alone, &longest.alone));
    table.row("longest tick beside a backup", ours, floor, "1.2 times".into(), beside <= alone * 1.2);
}

fn make(server: &Path, archive: &Path, pace: Option<&(dyn Fn(u64) + Sync)>) {
    let spawn = |work: Box<dyn FnOnce() + Send>| drop(std::thread::Builder::new().spawn(work).expect("a thread"));
    let options = WriteOptions {
        ignore: &IgnoreList::default(),
        level: LEVEL,
        hashes: SHA1,
        spawn: Some(&spawn),
        pace,
        progress: &Progress::new(),
    };
    write(&open(server), File::create(archive).expect("a file"), options).expect("an archive");
}

fn restore(archive: &Path, into: &Path) {
    let options = UnpackOptions {
        only: None,
        denylist: false,
        hashes: SHA1,
        pace: None,
        progress: &Progress::new(),
        entry: &mut |_| {},
    };
    unpack(File::open(archive).expect("an archive"), &open(into), options).expect("its files");
}

fn check(archive: &Path) {
    let archive = File::open(archive).expect("an archive");
    verify(archive, SHA1, None, &Progress::new()).expect("an archive that is whole");
}

fn open(folder: &Path) -> Tree {
    let owner = fs::metadata(folder).expect("a folder");
    let root = Root::open(folder, owner.uid(), owner.gid()).expect("a root");
    Tree::new(root, Arc::new(Denylist::default()), DiskAccount::new(Some(100 << 30), 0))
}

/// 20,000 small files of 10 KiB on average, and five big ones of 80 MiB: regions of a world, jars, and a log.
fn fill(folder: &Path) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let write = |name: String, content: Vec<u8>| {
        let path: PathBuf = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    };
    for number in 0..20_000 {
        let length = 2048 + random.below(16 << 10) as usize;
        let content = match number % 4 {
            0 => random.log(length),
            _ => random.chunk(length, length / 2),
        };
        write(format!("small/{}/{number}.dat", number % 200), content);
    }
    for number in 0..3 {
        // Compressed chunks with padding.
        let content = (0..80 * MIB / 4096).flat_map(|_| random.chunk(4096, 2800)).collect();
        write(format!("region/r.{number}.mca"), content);
    }
    write("mods.jar".into(), random.bytes(80 * MIB));
    write("latest.log".into(), random.log(80 * MIB));
}
