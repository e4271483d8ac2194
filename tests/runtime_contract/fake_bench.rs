//! The suite's bench around the runtime in memory.

use std::time::Duration;

use alula::config::NodeConfig;
use alula::model::Timestamp;
use alula::runtime::Runtime;
use alula::testing::fake::{Act, FakeEngine, FakeRuntime, Launch, LocalImage, Program, Reaction, Typed};
use async_trait::async_trait;

use crate::bench::{Bench, IMAGE, PATIENCE, ROUTINE, Routine, host, node};

struct FakeBench {
    runtime: FakeRuntime,
}

/// Runs a case on a fresh machine.
pub async fn run(case: impl AsyncFnOnce(&dyn Bench)) {
    let world = FakeEngine::default();
    world.add_image(IMAGE, LocalImage { stop_signal: Some("SIGQUIT".into()), ..LocalImage::default() });
    world.choose_programs(program);
    let bench = FakeBench { runtime: FakeRuntime::faultless(world, host(node())) };
    tokio::time::timeout(PATIENCE, case(&bench)).await.expect("the case takes too long");
}

fn program(launch: &Launch<'_>) -> Program {
    let word = launch.env(ROUTINE);
    match Routine::ALL.into_iter().find(|routine| Some(routine.word().as_str()) == word) {
        None => Program::idle(),
        Some(routine) => routine_program(routine),
    }
}

fn routine_program(routine: Routine) -> Program {
    let seconds = Duration::from_secs;
    let print = |text: &str| Act::Print(text.into());
    match routine {
        Routine::EndsWithThree => {
            let lines = ["first", "second", "third"].map(|line| (Duration::ZERO, line));
            Program::installer(&lines, Duration::from_millis(1), 3)
        }
        Routine::Answers => {
            let mut program = Program::idle()
                .and_then(Duration::ZERO, print("ready"))
                .on_line("quit", vec![(Duration::ZERO, Act::Exit(5))])
                .on_signal("SIGTERM", vec![(Duration::ZERO, Act::Exit(6))]);
            for word in ["one", "two"] {
                let answer = vec![(Duration::ZERO, print(&format!("got {word}")))];
                program.typed.push(Typed { text: word.into(), prefix: false, reaction: Reaction::Do(answer) });
            }
            program
        }
        Routine::EarlyAndLate => {
            Program::idle().and_then(Duration::ZERO, print("early")).and_then(seconds(4), print("late"))
        }
        Routine::EarlyThenEnds => Program::installer(&[(Duration::ZERO, "early"), (seconds(1), "late")], seconds(1), 0),
        Routine::EatsMemory => Program::idle().and_then(seconds(1), Act::RunOutOfMemory),
        Routine::BadEntrypoint => Program::bad_entrypoint("/no/such/program"),
    }
}

#[async_trait]
impl Bench for FakeBench {
    fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }

    fn runtime_of(&self, node: NodeConfig) -> Box<dyn Runtime> {
        Box::new(FakeRuntime::faultless(self.runtime.engine().clone(), host(node)))
    }

    fn run(&self) -> &str {
        "in-memory"
    }

    fn now(&self) -> Timestamp {
        self.runtime.engine().now()
    }

    async fn create_foreign(&self, name: &str) -> String {
        self.runtime.engine().create_foreign(name).expect("the name is free")
    }
}
