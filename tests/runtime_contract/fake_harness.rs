//! The harness of the runtime in memory.

use std::time::Duration;

use alula::config::NodeConfig;
use alula::model::{NodeIdentity, Timestamp};
use alula::runtime::Runtime;
use alula::testing::fake::{Act, FakeEngine, FakeRuntime, Launch, Load, LocalImage, Program, Reaction, Typed};
use async_trait::async_trait;

use crate::harness::{Harness, IMAGE, PROGRAM, TIMEOUT, TestProgram, host, node};

struct FakeHarness {
    runtime: FakeRuntime,
}

/// Runs a case on a fresh machine.
pub async fn run(case: impl AsyncFnOnce(&dyn Harness)) {
    let engine = FakeEngine::default();
    engine.add_image(IMAGE, LocalImage { stop_signal: Some("SIGQUIT".into()), ..LocalImage::default() });
    engine.choose_programs(program);
    let harness = FakeHarness { runtime: FakeRuntime::faultless(engine, host(node())) };
    tokio::time::timeout(TIMEOUT, case(&harness)).await.expect("the case takes too long");
}

fn program(launch: &Launch<'_>) -> Program {
    let name = launch.env(PROGRAM);
    match TestProgram::ALL.into_iter().find(|program| Some(program.name().as_str()) == name) {
        None => Program::idle(),
        Some(program) => fake_program(program),
    }
}

fn fake_program(program: TestProgram) -> Program {
    let seconds = Duration::from_secs;
    let print = |text: &str| Act::Print(text.into());
    match program {
        TestProgram::EndsWithThree => {
            let lines = ["first", "second", "third"].map(|line| (Duration::ZERO, line));
            Program::installer(&lines, Duration::from_millis(1), 3)
        }
        TestProgram::Answers => {
            let mut program = Program::idle()
                .and_then(Duration::ZERO, print("ready"))
                .on_line("quit", vec![(Duration::ZERO, Act::Exit(5))])
                .on_signal("SIGTERM", vec![(Duration::ZERO, Act::Exit(6))]);
            for line in ["one", "two"] {
                let answer = vec![(Duration::ZERO, print(&format!("got {line}")))];
                program.typed.push(Typed { text: line.into(), prefix: false, reaction: Reaction::Do(answer) });
            }
            program
        }
        TestProgram::EarlyAndLate => {
            Program::idle().and_then(Duration::ZERO, print("early")).and_then(seconds(4), print("late"))
        }
        TestProgram::EarlyThenEnds => {
            Program::installer(&[(Duration::ZERO, "early"), (seconds(1), "late")], seconds(1), 0)
        }
        TestProgram::ExceedsMemory => Program::idle().and_then(seconds(1), Act::RunOutOfMemory),
        TestProgram::Busy => {
            let load = Load { cpu_percent: 100, ..Load::default() };
            Program::idle().and_then(Duration::ZERO, print("busy")).uses(load)
        }
        TestProgram::BadEntrypoint => Program::bad_entrypoint("/no/such/program"),
    }
}

#[async_trait]
impl Harness for FakeHarness {
    fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }

    fn runtime_of(&self, node: NodeConfig) -> Box<dyn Runtime> {
        Box::new(FakeRuntime::faultless(self.runtime.engine().clone(), host(node)))
    }

    fn runtime_as(&self, identity: NodeIdentity) -> Box<dyn Runtime> {
        let host = host(node()).with_identity(identity);
        Box::new(FakeRuntime::faultless(self.runtime.engine().clone(), host))
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

    async fn rename(&self, name: &str, new: &str) {
        assert!(self.runtime.engine().rename_outside(name, new));
    }
}
