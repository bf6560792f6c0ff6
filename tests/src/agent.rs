//! The product, configured and started as an administrator would.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    Node, Output, Process, TestClock, control, machine, notify::Notify, process::run, programs,
    wait,
};

/// How long a start may take: on a busy machine the verifier takes several seconds a program.
const START: Duration = Duration::from_secs(60);

/// What the administrator writes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tells two agents on one node apart: part of every path.
    pub name: String,
    /// Where to attach, below the cgroup v2 mount; `None`: the node's own part of the tree.
    pub attach: Option<String>,
    /// More keys of `attach`, in braces' notation: `guests: ["veth*"], uplinks: [eth0]`.
    pub attach_also: String,
    /// Layers that are left unattached, by name: what they alone stop gets through.
    pub without: Vec<String>,
    /// The keys of limiter.yaml besides the places.
    pub main: String,
    /// The tenant files, as (name, contents).
    pub tenants: Vec<(String, String)>,
}

impl Config {
    /// The keys of limiter.yaml besides the places, and one tenant file.
    #[must_use]
    pub fn new(main: &str, tenants: &str) -> Self {
        Self {
            name: "limiter".to_owned(),
            attach: None,
            attach_also: String::new(),
            without: Vec::new(),
            main: main.to_owned(),
            tenants: vec![("tenants.yaml".to_owned(), tenants.to_owned())],
        }
    }

    /// The same, with another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The same, attached to these interfaces too: more keys of `attach`.
    #[must_use]
    pub fn attached_also(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.attach_also);
        self
    }

    /// The same, with these layers left unattached.
    #[must_use]
    pub fn without(mut self, layers: &[&str]) -> Self {
        self.without = layers.iter().map(|&layer| layer.to_owned()).collect();
        self
    }

    /// The same, attached elsewhere.
    #[must_use]
    pub fn attached_to(mut self, path: &str) -> Self {
        self.attach = Some(path.to_owned());
        self
    }
}

/// A configured limiter on a node. Dropping it detaches it and stops it.
#[derive(Debug)]
pub struct Agent<'n> {
    node: &'n Node,
    name: String,
    home: PathBuf,
    attach: String,
    without: Vec<String>,
    classic: bool,
    clock: Option<TestClock>,
    process: Mutex<Option<Process>>,
}

impl<'n> Agent<'n> {
    /// Writes the configuration and starts the agent. Returns when it says that it is ready.
    #[must_use]
    pub fn start(node: &'n Node, config: &Config) -> Self {
        let agent = Self::configured(node, config);
        agent.run();
        agent
    }

    /// Writes the configuration, and starts nothing.
    #[must_use]
    pub fn configured(node: &'n Node, config: &Config) -> Self {
        let home = node.directory().join(&config.name);
        fs::create_dir_all(home.join("tenants.d")).expect("the directory is ours");
        let agent = Self {
            node,
            name: config.name.clone(),
            home,
            attach: attach(node, config),
            without: config.without.clone(),
            classic: false,
            clock: None,
            process: Mutex::new(None),
        };
        agent.write_main(&config.main);
        for (file, contents) in &config.tenants {
            agent.write_tenants(file, contents);
        }
        agent
    }

    /// The same, as on a kernel without TCX.
    #[must_use]
    pub fn classic(mut self) -> Self {
        self.classic = true;
        self
    }

    /// The same, with a clock that the test can put forward: from its next start on.
    #[must_use]
    pub fn simulated(mut self) -> Self {
        self.clock = Some(TestClock::default());
        self
    }

    /// The same, by the machine's clock again: from its next start on.
    #[must_use]
    pub fn in_earnest(mut self) -> Self {
        self.clock = None;
        self
    }

    /// The clock of a [`simulated`](Self::simulated) agent.
    #[must_use]
    pub fn clock(&self) -> &TestClock {
        self.clock.as_ref().expect("the agent is simulated")
    }

    /// Puts the clocks of the running agent and of its programs forward.
    pub fn advance(&self, by: Duration) {
        let answer = self.set_clock(&serde_json::json!({"advance": by.as_secs()}));
        let ahead = answer.1["ahead"].as_u64();
        let ahead = ahead.unwrap_or_else(|| panic!("the clock does not move: {answer:?}"));
        self.clock().ahead_s.store(ahead, Ordering::Relaxed);
    }

    /// Sends a request to the path of the clock: the status and the body of the answer.
    pub fn set_clock(&self, request: &Value) -> (u16, Value) {
        control::post(&self.control_socket(), "/v1/clock", request)
    }

    /// The machine goes down at once, for so long, and boots again: the kernel has forgotten
    /// everything, and no agent runs.
    pub fn reboot(&self, down: Duration) {
        if self.process().is_some() {
            self.kill_9();
        }
        self.must(&["detach"]);
        self.clock().boot(down);
    }

    /// Starts the agent and waits until it is ready.
    pub fn run(&self) {
        self.run_until_ready()
            .unwrap_or_else(|log| panic!("the agent does not get ready:\n{log}"));
    }

    /// Starts the agent.
    ///
    /// # Errors
    ///
    /// What it logged, if it ends instead of getting ready.
    pub fn run_until_ready(&self) -> Result<(), String> {
        let (mut process, notify) = self.spawn();
        let ready = notify.wait("READY=1", machine::patience(START), || {
            process.ended().is_some()
        });
        let log = process.log();
        if !ready {
            return Err(log);
        }
        *self.process() = Some(process);
        Ok(())
    }

    /// Starts the agent and kills it `after` a while so that it cannot clean up, mostly before it is
    /// ready. Fails the test if it ends by itself.
    pub fn run_briefly(&self, after: Duration) {
        let (mut process, _notify) = self.spawn();
        thread::sleep(after);
        let ended = process.ended();
        assert_eq!(ended, None, "the agent ends:\n{}", process.log());
        let _ = process.stop(Signal::SIGKILL);
    }

    fn spawn(&self) -> (Process, Notify) {
        let socket = self.home.join("notify.sock");
        // The one of the last start, if there was one.
        let _ = fs::remove_file(&socket);
        let notify = Notify::new(&socket);
        let mut command = self.command();
        command.env("NOTIFY_SOCKET", notify.path()).arg("run");
        if let Some(clock) = &self.clock {
            command.args(clock.arguments());
        }
        if !self.without.is_empty() {
            command.env("LIMITER_TEST_WITHOUT_LAYER", self.without.join(","));
        }
        if self.classic {
            command.env("LIMITER_TEST_NO_TCX", "1");
        }
        let process = Process::start("the agent", &mut command, &self.home.join("log"));
        (process, notify)
    }

    /// Kills the agent so that it cannot clean up.
    pub fn kill_9(&self) {
        self.stop(Signal::SIGKILL);
    }

    /// Stops the agent as systemd does. Its exit code.
    pub fn term(&self) -> i32 {
        self.stop(Signal::SIGTERM)
    }

    fn stop(&self, signal: Signal) -> i32 {
        let mut process = self.process().take().expect("the agent runs");
        process.stop(signal)
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        let process = self.process();
        process.as_ref().expect("the agent runs").signal(signal);
    }

    /// The agent's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let process = self.process();
        process.as_ref().expect("the agent runs").pid()
    }

    /// What all agents logged that ran with this configuration.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Everything that belongs to it but its pins.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The main configuration file.
    #[must_use]
    pub fn main_file(&self) -> PathBuf {
        self.home.join("limiter.yaml")
    }

    /// A tenant file.
    #[must_use]
    pub fn tenant_file(&self, file: &str) -> PathBuf {
        self.home.join("tenants.d").join(file)
    }

    /// Where it pins, as seen inside the node.
    #[must_use]
    pub fn pin_directory(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(&self.name)
    }

    /// The control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.home.join("control.sock")
    }

    /// Where it keeps what must survive it.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Writes the main file anew, with these keys besides the places.
    pub fn write_main(&self, keys: &str) {
        let home = self.home.display();
        let contents = format!(
            "version: 1
node: test-node
attach: {{{}}}
tenants: tenants.d/*.yaml
state_dir: {home}/state
pin_dir: {}
control: {home}/control.sock
metrics: null
{keys}
",
            self.attach,
            self.pin_directory().display(),
        );
        replace(&self.main_file(), &contents);
    }

    /// Writes a tenant file anew.
    pub fn write_tenants(&self, file: &str, contents: &str) {
        replace(&self.tenant_file(file), contents);
    }

    /// The product's command line on this node, with this configuration.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.node.root().command(programs::limiter());
        command.env_remove("RUST_LOG");
        command.arg("--config").arg(self.main_file());
        command
    }

    /// Runs one of the product's commands.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        run(self.command().args(arguments), "")
    }

    /// Runs one of the product's commands, which has to succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let what = format!("limiter {}", arguments.join(" "));
        self.cli(arguments).success(&what).stdout
    }

    /// `limiter status --json`, whatever its exit code.
    #[must_use]
    pub fn status(&self) -> Value {
        let out = self.cli(&["status", "--json"]);
        parse("limiter status --json", &out.stdout, &out)
    }

    /// A tenant in `limiter status --json`.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Value {
        let status = self.status();
        find_tenant(&status, name)
            .unwrap_or_else(|| panic!("no tenant {name} in {status:#}"))
            .clone()
    }

    /// One of a tenant's counters: `allowed`, `denied`, `redirected` or `would_deny`.
    #[must_use]
    pub fn counter(&self, tenant: &str, counter: &str) -> u64 {
        let tenant = self.tenant(tenant);
        tenant[counter]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {counter} in {tenant:#}"))
    }

    /// How far a tenant's limit is used, by its place in the tenant's list.
    #[must_use]
    pub fn used(&self, tenant: &str, limit: usize) -> u64 {
        let tenant = self.tenant(tenant);
        tenant["usage"][limit]["used"]
            .as_u64()
            .unwrap_or_else(|| panic!("no limit {limit} in {tenant:#}"))
    }

    /// `limiter explain … --json`.
    #[must_use]
    pub fn explain(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["explain", "--json"];
        all.extend(arguments);
        let out = self.cli(&all);
        assert_eq!(out.code, 0, "{all:?}: {}{}", out.stdout, out.stderr);
        parse("limiter explain", &out.stdout, &out)
    }

    /// `limiter events --json` with these arguments: the events, oldest first.
    #[must_use]
    pub fn events(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = vec!["events", "--json"];
        all.extend(arguments);
        let out = self.cli(&all);
        assert_eq!(out.code, 0, "{all:?}: {}{}", out.stdout, out.stderr);
        out.stdout
            .lines()
            .map(|line| parse("an event", line, &out))
            .collect()
    }

    /// Waits until a tenant's events tell of everything its counters have counted, and returns
    /// the events.
    #[must_use]
    pub fn all_events(&self, tenant: &str) -> Vec<Value> {
        wait::until("the events to be complete", wait::SOON, || {
            let status = self.tenant(tenant);
            let counted: u64 = ["denied", "redirected", "would_deny"]
                .iter()
                .map(|counter| status[counter].as_u64().unwrap_or(0))
                .sum();
            let events = self.events(&["--tenant", tenant]);
            (repeated(&events) >= counted).then_some(events)
        })
    }

    /// `limiter reload`.
    #[must_use]
    pub fn reload(&self) -> Output {
        self.cli(&["reload"])
    }

    /// Everything that is pinned, as paths inside the node.
    #[must_use]
    pub fn pins(&self) -> Vec<PathBuf> {
        let directory = self.pin_directory();
        self.node.inside().enter(|| files_below(&directory))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        drop(self.process().take());
        // Failing to detach is for the tests of detaching to notice: the pins go with the node.
        let mut command = self.command();
        command.arg("detach").env("RUST_LOG", "off");
        let _ = command.output();
    }
}

/// The sum of `repeated`: how many attempts the events stand for.
#[must_use]
pub fn repeated(events: &[Value]) -> u64 {
    events
        .iter()
        .map(|event| event["repeated"].as_u64().expect("every event has it"))
        .sum()
}

/// The tenant of that name in the output of `limiter status --json`.
#[must_use]
pub fn find_tenant<'s>(status: &'s Value, name: &str) -> Option<&'s Value> {
    status["tenants"]
        .as_array()?
        .iter()
        .find(|tenant| tenant["tenant"] == name)
}

/// What `attach` holds.
fn attach(node: &Node, config: &Config) -> String {
    let cgroup = config.attach.clone();
    let cgroup = cgroup.unwrap_or_else(|| node.cgroup().path());
    match config.attach_also.as_str() {
        "" => format!("cgroup: {cgroup}"),
        also => format!("cgroup: {cgroup}, {also}"),
    }
}

fn parse(what: &str, text: &str, out: &Output) -> Value {
    serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("{what} is no JSON: {error}\n{text}{}", out.stderr))
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// Replaces a file at once, as editors do, for root alone to write.
fn replace(path: &Path, contents: &str) {
    let new = path.with_extension("new");
    fs::write(&new, contents).expect("the directory is ours");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).expect("it is ours");
    fs::rename(&new, path).expect("the directory is ours");
}
