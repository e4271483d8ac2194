//! The behaviour of a started fake container: a script by time, and reactions to input and signals.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Role;
use crate::runtime::{ContainerSpec, Purpose};

/// Exit status of a process that SIGKILL ended.
pub const KILLED: i64 = 137;

/// One action of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Prints a line; the terminal ends it with CR LF.
    Print(String),
    /// Prints these bytes as they are.
    Write(Vec<u8>),
    /// Ends with this exit status.
    Exit(i64),
    /// The kernel kills it for lack of memory: 137, with the flag.
    RunOutOfMemory,
}

/// Actions, each with its delay after the cause.
pub type Script = Vec<(Duration, Act)>;

/// What a typed line causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// The whole line, or its first token where [`Typed::prefix`] is set.
    pub text: String,
    /// Compares the first token only.
    pub prefix: bool,
    /// What is done.
    pub reaction: Reaction,
}

/// How a typed line is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaction {
    /// Do this.
    Do(Script),
    /// Print the rest of the line.
    Echo,
    /// End with the number in the rest of the line.
    ExitWith,
}

/// The behaviour of a container's first process.
///
/// SIGKILL always ends it at once with 137. Signals without an entry are ignored, as the kernel does for a
/// container's first process without a handler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// Actions by the time since its start.
    pub script: Script,
    /// Reactions to input; the first match wins.
    pub typed: Vec<Typed>,
    /// Signal name (`SIGTERM`) → what it causes.
    pub signals: BTreeMap<&'static str, Script>,
    /// Its entrypoint cannot be executed: the start fails with this message.
    pub unstartable: Option<String>,
    /// What it uses.
    pub load: Load,
}

/// What a program uses while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Memory, up to the container's limit.
    pub memory_bytes: u64,
    /// Percent of one processor.
    pub cpu_percent: u32,
    /// Bytes that it receives from the network, and writes to disk.
    pub bytes_per_second: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { memory_bytes: 1 << 20, cpu_percent: 0, bytes_per_second: 0 }
    }
}

/// A container about to start, as a chooser of programs gets it.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The container's name.
    pub name: &'a str,
    /// Its spec.
    pub spec: &'a ContainerSpec,
    /// What it was created for; `None` for containers of other programs.
    pub purpose: Option<&'a Purpose>,
    /// Starts of this container, this one included.
    pub run: u32,
    /// Starts of any container of this name, this one included.
    pub run_of_name: u32,
}

impl Launch<'_> {
    /// The role, by purpose or name.
    pub fn role(&self) -> Role {
        match self.purpose {
            Some(purpose) => purpose.role,
            None if self.name.ends_with("_installer") => Role::Installer,
            None => Role::Server,
        }
    }

    /// A variable of its environment.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.spec.environment.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Times and output of a well-behaved game server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerScript {
    /// From the start to the done line; `None`: never.
    pub boots_in: Option<Duration>,
    /// The done line.
    pub done: String,
    /// The console command that ends it.
    pub stop_command: String,
    /// From a stop command or signal to its end; `None` ignores both.
    pub stops_in: Option<Duration>,
    /// Time from the start to a crash, and its exit status.
    pub crash: Option<(Duration, i64)>,
}

impl Default for ServerScript {
    fn default() -> Self {
        Self {
            boots_in: Some(Duration::from_secs(1)),
            done: "Done! For help, type \"help\"".into(),
            stop_command: "stop".into(),
            stops_in: Some(Duration::from_millis(500)),
            crash: None,
        }
    }
}

impl Program {
    /// A program that prints lines, each with its delay after the start, and exits after `lasts`.
    pub fn installer(lines: &[(Duration, &str)], lasts: Duration, code: i64) -> Self {
        let mut script: Script = lines.iter().map(|(at, line)| (*at, Act::Print((*line).into()))).collect();
        script.push((lasts, Act::Exit(code)));
        Self { script, ..Self::default() }
    }

    /// A game server: prints `booting`, then its done line; `stop` and SIGTERM and SIGINT end it with 0,
    /// `crash N` ends it with N, `say …` is answered.
    pub fn server(plan: &ServerScript) -> Self {
        let mut script: Script = vec![(Duration::ZERO, Act::Print("booting".into()))];
        script.extend(plan.boots_in.map(|after| (after, Act::Print(plan.done.clone()))));
        script.extend(plan.crash.map(|(after, code)| (after, Act::Exit(code))));
        let mut typed = vec![
            Typed { text: "say".into(), prefix: true, reaction: Reaction::Echo },
            Typed { text: "crash".into(), prefix: true, reaction: Reaction::ExitWith },
        ];
        let mut signals = BTreeMap::new();
        if let Some(after) = plan.stops_in {
            let stop = vec![(Duration::ZERO, Act::Print("Stopping the server".into())), (after, Act::Exit(0))];
            signals.insert("SIGTERM", stop.clone());
            signals.insert("SIGINT", stop.clone());
            typed.push(Typed { text: plan.stop_command.clone(), prefix: false, reaction: Reaction::Do(stop) });
        }
        Self { script, typed, signals, ..Self::default() }
    }

    /// A program that does nothing until it is killed.
    pub fn idle() -> Self {
        Self::default()
    }

    /// A program whose entrypoint does not exist.
    pub fn bad_entrypoint(command: &str) -> Self {
        let message = format!(
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start \
             container process: exec: \"{command}\": executable file not found in $PATH: unknown"
        );
        Self { unstartable: Some(message), ..Self::default() }
    }

    /// Adds an action at this time after its start.
    pub fn and_then(mut self, after: Duration, act: Act) -> Self {
        self.script.push((after, act));
        self
    }

    /// Sets what it uses.
    pub fn uses(self, load: Load) -> Self {
        Self { load, ..self }
    }

    /// Adds or replaces the reaction to a signal.
    pub fn on_signal(mut self, signal: &'static str, reaction: Script) -> Self {
        self.signals.insert(signal, reaction);
        self
    }

    /// Adds the reaction to a line of input, ahead of the existing ones.
    pub fn on_line(mut self, text: &str, reaction: Script) -> Self {
        let typed = Typed { text: text.into(), prefix: false, reaction: Reaction::Do(reaction) };
        self.typed.insert(0, typed);
        self
    }

    /// What a typed line causes.
    pub(super) fn typed(&self, line: &str) -> Script {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        let fits = |typed: &&Typed| {
            if typed.prefix { typed.text == first } else { typed.text == line }
        };
        match self.typed.iter().find(fits).map(|typed| &typed.reaction) {
            None => Script::new(),
            Some(Reaction::Do(script)) => script.clone(),
            Some(Reaction::Echo) => vec![(Duration::ZERO, Act::Print(rest.into()))],
            Some(Reaction::ExitWith) => {
                vec![(Duration::ZERO, Act::Exit(rest.trim().parse().unwrap_or(1)))]
            }
        }
    }
}

/// The default program: an installer that takes two seconds, or a server with the default times.
pub fn default_program(launch: &Launch<'_>) -> Program {
    match launch.role() {
        Role::Installer => Program::installer(
            &[(Duration::ZERO, "installing"), (Duration::from_secs(1), "half way")],
            Duration::from_secs(2),
            0,
        ),
        Role::Server => Program::server(&ServerScript::default()),
    }
}
