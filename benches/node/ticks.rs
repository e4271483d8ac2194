//! The ticks of a game beside other work: twenty a second, each of which computes, writes to its world, and sometimes reads from it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cost::Random;

const TICK: Duration = Duration::from_millis(50);
/// Ten seconds.
const TICKS: usize = 200;
const ROUNDS: usize = 5;
const WORLD: u64 = 64 << 20;
const PIECE: usize = 64 << 10;
/// Some milliseconds.
const STEPS: usize = 8_000_000;

/// The longest ticks of each round in milliseconds: alone, and beside work that is repeated while the ticks run.
pub struct Longest {
    pub alone: Vec<f64>,
    pub beside: Vec<f64>,
}

/// Runs the game alone and beside `work`, in turns, because machines change.
pub fn measure(folder: &Path, work: impl Fn() + Sync) -> Longest {
    let world = world(folder);
    let mut longest = Longest { alone: Vec::new(), beside: Vec::new() };
    for _ in 0..ROUNDS {
        longest.alone.push(play(&world));
        let plays = AtomicBool::new(true);
        let beside = std::thread::scope(|scope| {
            scope.spawn(|| {
                while plays.load(Ordering::Relaxed) {
                    work();
                }
            });
            let longest = play(&world);
            plays.store(false, Ordering::Relaxed);
            longest
        });
        longest.beside.push(beside);
    }
    longest
}

fn world(folder: &Path) -> File {
    let path = folder.join("world");
    fs::write(&path, Random(7).bytes(WORLD as usize)).expect("a world");
    OpenOptions::new().read(true).write(true).open(path).expect("a world")
}

/// The longest tick. A tick that begins late, because the thread was not woken in time, counts from when it was due.
fn play(world: &File) -> f64 {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for number in 0..TICKS {
        let due = began + TICK * number as u32;
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        let steps = (0..STEPS).fold(0, |sum: u64, _| sum ^ random.next());
        let mut piece = vec![steps as u8; PIECE];
        world.write_all_at(&piece, random.below(WORLD - PIECE as u64)).expect("a write");
        if number % 20 == 0 {
            world.read_exact_at(&mut piece, random.below(WORLD - PIECE as u64)).expect("a read");
        }
        longest = longest.max(due.elapsed());
    }
    longest.as_secs_f64() * 1000.0
}
