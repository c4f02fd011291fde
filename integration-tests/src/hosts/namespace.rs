//! Network namespaces that are removed after use, and a thread that runs in one.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Failure;
use super::command::run;

/// The prefix of the names of all namespaces made here.
const PREFIX: &str = "networkdb-";

/// A namespace of this run. Dropping it ends every process in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one under a name that no other run uses; `role` is its last part.
    pub fn new(role: &str) -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        let started = started(process).ok_or("cannot read when this process was started; is /proc there?")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self { name: format!("{PREFIX}{process}-{started}-{number}-{role}") };
        run("ip", &["netns", "add", &namespace.name])?;
        run("ip", &["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The error cannot be reported; the next run removes what remains.
        let _ = remove(&self.name);
    }
}

/// Ends the processes in a namespace of any run, and removes it.
fn remove(name: &str) -> Result<(), Failure> {
    let own = std::process::id().to_string();
    for process in run("ip", &["netns", "pids", name])?.split_whitespace().filter(|pid| *pid != own) {
        if let Some(pid) = process.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    run("ip", &["netns", "del", name]).map(drop)
}

/// Removes the namespaces that killed runs have left behind, and returns their names.
pub fn sweep() -> Result<Vec<String>, Failure> {
    let listed = run("ip", &["netns", "list"])?;
    // A line is a name, and sometimes a number in brackets.
    let names: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let dead = |name: &str| {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let (process, when) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u64>().ok()?);
        // The number may have been given to another process since.
        (started(process) != Some(when)).then_some(())
    };
    let mut swept = Vec::new();
    for name in names.into_iter().filter(|name| dead(name).is_some()) {
        match remove(name) {
            Ok(()) => swept.push(name.to_owned()),
            // Another run may have removed it at the same time.
            Err(error) if error.contains("No such file") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

/// The start time of a process, in ticks since the boot of the machine.
fn started(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the program's name in brackets, with any content; the 22nd is the start
    // time.
    stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A thread that has entered a namespace: sockets opened and processes started there belong to it.
#[derive(Debug)]
pub struct Inside {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    /// Enters the namespace called `name` with a new thread.
    pub fn enter(name: &str) -> Result<Self, Failure> {
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot make a runtime: {error}"))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, entered) = std::sync::mpsc::channel();
        let work = move || {
            let result = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            let inside = result.is_ok();
            let _ = report.send(result);
            if inside {
                // The spawned tasks run only during this wait, all on this thread.
                let _ = runtime.block_on(stopped);
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("in {name}"))
            .spawn(work)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        entered
            .recv()
            .map_err(|_| "the thread of a namespace ended at once".to_owned())?
            .map_err(|error| format!("cannot enter {path}: {error}"))?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Starts a task there. It ends with this value at the latest.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Runs a task there and returns its result.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.spawn(task).await.map_err(|error| format!("a task in a namespace failed: {error}"))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
