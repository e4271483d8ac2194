//! The cost of archives: `cargo bench --bench archive`. Compresses and decompresses a mixed tree of 600 MiB, a world, jars, logs
//! and many small files. The floor is measured in the same run: `tar` with `pigz`, at the same level.
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

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula::archive::{Compression, Format, archive_names, compress, extract};
use alula::files::Root;
use alula::files::account::DiskAccount;
use alula::files::denylist::Denylist;
use alula::files::tree::Tree;
use alula::files::user_path::UserPath;
use alula::progress::Progress;
use cost::{Cost, Random, measure, shell};

const LEVEL: u32 = 6;
const REPEATS: usize = 3;
const MIB: usize = 1 << 20;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(&folder.path().join("world"));
    let tree = open(folder.path());
    let mut table = table::Table::default();
    let seconds = |cost: &[Cost], of: fn(&Cost) -> f64| table::median(cost.iter().map(of).collect());
    for format in [Format::TarGz, Format::Zip] {
        let (mut packed, mut unpacked, mut pigz, mut unpigz) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..REPEATS {
            pigz.push(shell(folder.path(), &format!("tar -c world | pigz -{LEVEL} > floor.tar.gz")));
            unpigz.push(shell(folder.path(), "mkdir floor && pigz -dc floor.tar.gz | tar -x -C floor"));
            remove(folder.path(), "floor");
            let mut archive = UserPath::root();
            packed.push(measure(|| archive = pack(&tree, format)));
            unpacked.push(measure(|| unpack(&tree, &archive)));
            remove(folder.path(), "ours");
            report_size(folder.path(), &archive);
            fs::remove_file(folder.path().join(archive.as_path())).expect("an archive");
        }
        for (what, ours, floor) in [("compress", &packed, &pigz), ("decompress", &unpacked, &unpigz)] {
            let (cpu, wall, memory) = (|cost: &Cost| cost.cpu, |cost: &Cost| cost.wall, |cost: &Cost| cost.memory);
            let (ours_cpu, floor_cpu) = (seconds(ours, cpu), seconds(floor, cpu));
            let row = format!("{what} to {}, CPU", format.extension());
            table.row(
                &row,
                format!("{ours_cpu:.2} s"),
                format!("{floor_cpu:.2} s"),
                "less".into(),
                ours_cpu < floor_cpu,
            );
            let (ours_wall, floor_wall) = (seconds(ours, wall), seconds(floor, wall));
            let row = format!("{what} to {}, wall", format.extension());
            let met = ours_wall < floor_wall * 1.2;
            table.row(&row, format!("{ours_wall:.2} s"), format!("{floor_wall:.2} s"), "about the same".into(), met);
            let peak = seconds(ours, memory);
            let row = format!("{what} to {}, memory above idle", format.extension());
            table.row(&row, format!("{peak:.1} MiB"), String::new(), "32 MiB".into(), peak <= 32.0);
        }
    }
    table.print();
}

fn pack(tree: &Tree, format: Format) -> UserPath {
    let what = Compression { directory: UserPath::root(), names: vec!["world".into()], format, level: LEVEL };
    let names = archive_names(OsStr::new("ours"), format, "now");
    let spawn = |work: Box<dyn FnOnce() + Send>| drop(std::thread::Builder::new().spawn(work).expect("a thread"));
    compress(tree, &what, names, Some(&spawn), &Progress::new()).expect("an archive")
}

fn unpack(tree: &Tree, archive: &UserPath) {
    let into = UserPath::parse(OsStr::new("ours")).expect("a path");
    extract(tree, archive, &into, &Progress::new()).expect("its files");
}

fn open(folder: &Path) -> Tree {
    let owner = fs::metadata(folder).expect("a folder");
    let root = Root::open(folder, owner.uid(), owner.gid()).expect("a root");
    Tree::new(root, Arc::new(Denylist::new::<&str>([])), DiskAccount::new(Some(100 << 30), 0))
}

fn report_size(folder: &Path, archive: &UserPath) {
    let size = |name: &Path| fs::metadata(folder.join(name)).map_or(0, |found| found.len()) / MIB as u64;
    let (ours, floor) = (size(archive.as_path()), size(Path::new("floor.tar.gz")));
    eprintln!("{archive}: {ours} MiB (pigz: {floor} MiB)");
}

fn remove(folder: &Path, name: &str) {
    fs::remove_dir_all(folder.join(name)).expect("a folder");
}

/// 600 MiB: regions of a world, jars that are compressed already, logs, and 5,000 small files.
fn fill(folder: &Path) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let write = |name: String, content: Vec<u8>| {
        let path: PathBuf = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    };
    for number in 0..40 {
        // Compressed chunks with padding.
        let content = (0..2048).flat_map(|_| random.chunk(4096, 2800)).collect();
        write(format!("region/r.{number}.mca"), content);
    }
    for number in 0..10 {
        let content = random.bytes(10 * MIB);
        write(format!("mods/mod-{number}.jar"), content);
    }
    for number in 0..16 {
        let content = random.log(10 * MIB);
        write(format!("logs/{number}.log"), content);
    }
    for number in 0..5000 {
        let content = random.chunk(4096, 1000);
        write(format!("playerdata/{}/{number}.dat", number % 50), content);
    }
}
