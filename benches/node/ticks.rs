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
const ROUNDS: usize = 3;
const WORLD: u64 = 64 << 20;
const PIECE: usize = 64 << 10;
/// What a tick computes takes so long.
const WORK: Duration = Duration::from_millis(10);

/// The longest ticks of each round in milliseconds: alone, and beside work that is repeated while the ticks run.
pub struct Longest {
    pub alone: Vec<f64>,
    pub beside: Vec<f64>,
}

/// Runs the game alone and beside `work`, in turns, because machines change.
pub fn measure(folder: &Path, work: impl Fn() + Sync) -> Longest {
    let (world, steps) = (world(folder), steps());
    let mut longest = Longest { alone: Vec::new(), beside: Vec::new() };
    for _ in 0..ROUNDS {
        longest.alone.push(play(&world, steps));
        let plays = AtomicBool::new(true);
        let beside = std::thread::scope(|scope| {
            scope.spawn(|| {
                while plays.load(Ordering::Relaxed) {
                    work();
                }
            });
            let longest = play(&world, steps);
            plays.store(false, Ordering::Relaxed);
            longest
        });
        longest.beside.push(beside);
    }
    longest
}

fn compute(random: &mut Random, steps: u64) -> u64 {
    (0..steps).fold(0, |sum: u64, _| sum ^ random.next())
}

/// How many steps this machine makes in [`WORK`].
fn steps() -> u64 {
    const SOME: u64 = 1_000_000;
    let (mut random, began) = (Random(3), Instant::now());
    std::hint::black_box(compute(&mut random, SOME));
    (SOME as f64 * WORK.as_secs_f64() / began.elapsed().as_secs_f64()) as u64
}

fn world(folder: &Path) -> File {
    let path = folder.join("world");
    fs::write(&path, Random(7).bytes(WORLD as usize)).expect("a world");
    OpenOptions::new().read(true).write(true).open(path).expect("a world")
}

/// The longest tick. A tick that begins late, because the thread was not woken in time, counts from when it was due.
fn play(world: &File, steps: u64) -> f64 {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for number in 0..TICKS {
        let due = began + TICK * number as u32;
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        let mut piece = vec![compute(&mut random, steps) as u8; PIECE];
        world.write_all_at(&piece, random.below(WORLD - PIECE as u64)).expect("a write");
        if number % 20 == 0 {
            world.read_exact_at(&mut piece, random.below(WORLD - PIECE as u64)).expect("a read");
        }
        longest = longest.max(due.elapsed());
    }
    longest.as_secs_f64() * 1000.0
}
