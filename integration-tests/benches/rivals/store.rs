//! The participant's end for a store: commands on standard input, an answer on standard output for each.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::clock::{now, processor, written};
use crate::entries::Values;
use crate::participant::{Failure, commands};

/// How often a receiver compares its counter.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// What a node of either side can do. The calls block, and run outside of the runtime.
pub(crate) trait Store: Sized {
    /// Starts a node, and joins a cluster through `seed`. `interval` is how often chitchat gossips.
    fn start(runtime: &Runtime, settings: &StoreSettings) -> Result<Self, Failure>;
    fn address(&self) -> SocketAddr;
    /// Joins the network in which entries are, if there are networks.
    fn join_network(&self, runtime: &Runtime) -> Result<(), Failure>;
    /// How many nodes have joined it, as this node knows.
    fn members(&self) -> usize;
    fn create(&self, numbers: Range<usize>, values: &Values) -> Result<(), Failure>;
    /// How many entries have arrived; quick enough to be called every millisecond.
    fn count(&self) -> usize;
    /// The times at which entries arrive from now on.
    fn arrivals(&self) -> mpsc::Receiver<Duration>;
}

/// With what a node is started.
#[derive(Debug)]
pub(crate) struct StoreSettings {
    pub(crate) name: String,
    pub(crate) bind: IpAddr,
    pub(crate) seed: Option<SocketAddr>,
    pub(crate) interval: Duration,
}

/// Serves commands until the input ends.
pub(crate) fn run<S: Store>() {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else { return };
    let mut role = Role::<S> { runtime, values: Values::new(), store: None, arrivals: None };
    for line in commands() {
        match role.answer(&line) {
            Ok(answer) => println!("{answer}"),
            Err(failure) => println!("failed {failure}"),
        }
    }
}

struct Role<S> {
    runtime: Runtime,
    values: Values,
    store: Option<S>,
    arrivals: Option<mpsc::Receiver<Duration>>,
}

impl<S: Store> Role<S> {
    fn answer(&mut self, line: &str) -> Result<String, Failure> {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["start", name, bind, seed, interval] => {
                let begin = now();
                let settings = StoreSettings {
                    name: name.to_owned(),
                    bind: parse(bind)?,
                    seed: (seed != "-").then(|| parse(seed)).transpose()?,
                    interval: Duration::from_millis(parse(interval)?),
                };
                let store = S::start(&self.runtime, &settings)?;
                let address = store.address();
                self.store = Some(store);
                Ok(format!("{address} {}", written(begin)))
            }
            ["network"] => {
                let begin = now();
                self.store()?.join_network(&self.runtime)?;
                Ok(written(begin))
            }
            ["members", count, timeout] => {
                self.wait(parse(count)?, millis(timeout)?, |store| store.members()).map(written)
            }
            ["write", first, count] => {
                let (first, count): (usize, usize) = (parse(first)?, parse(count)?);
                let begin = now();
                self.store()?.create(first..first + count, &self.values)?;
                Ok(written(begin))
            }
            ["pace", rate, time] => self.pace(parse(rate)?, millis(time)?),
            ["hold", count, timeout] => {
                self.wait(parse(count)?, millis(timeout)?, |store| store.count()).map(written)
            }
            ["sample", count, timeout] => self.sample(parse(count)?, millis(timeout)?),
            ["watch"] => {
                self.arrivals = Some(self.store()?.arrivals());
                Ok("watching".to_owned())
            }
            ["arrival", timeout] => {
                let arrivals = self.arrivals.as_ref().ok_or("there is no watch")?;
                let time = arrivals.recv_timeout(millis(timeout)?);
                time.map(written).map_err(|_| "no entry has arrived".to_owned())
            }
            ["processor"] => Ok(written(processor())),
            _ => Err(format!("unknown command: {line}")),
        }
    }

    fn store(&self) -> Result<&S, Failure> {
        self.store.as_ref().ok_or_else(|| "it has not been started".to_owned())
    }

    /// Waits until `counted` is at least `count`, and returns when.
    fn wait(
        &self,
        count: usize,
        timeout: Duration,
        counted: impl Fn(&S) -> usize,
    ) -> Result<Duration, Failure> {
        let store = self.store()?;
        let deadline = now() + timeout;
        loop {
            let found = counted(store);
            let time = now();
            if found >= count {
                return Ok(time);
            }
            if time > deadline {
                return Err(format!("{found} of {count} after {timeout:?}"));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Writes `rate` entries a second, some every millisecond. The answer has a pair for each of these moments: the
    /// time before the writes, and how many entries there are after them.
    fn pace(&self, rate: usize, time: Duration) -> Result<String, Failure> {
        let store = self.store()?;
        let begin = now();
        let all = (rate as f64 * time.as_secs_f64()) as usize;
        let (mut done, mut pairs) = (0, String::new());
        while done < all {
            let moment = now();
            let due = ((moment - begin).as_secs_f64() * rate as f64) as usize;
            let due = due.min(all);
            if due > done {
                store.create(done..due, &self.values)?;
                done = due;
                pairs += &format!("{}:{done} ", written(moment));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(pairs.trim_end().to_owned())
    }

    /// Reads the counter every millisecond until it is `count`, or until the timeout. The answer has a pair for each
    /// time that it had changed: the time, and the count.
    fn sample(&self, count: usize, timeout: Duration) -> Result<String, Failure> {
        let store = self.store()?;
        let deadline = now() + timeout;
        let (mut last, mut pairs) = (0, String::new());
        while last < count && now() < deadline {
            let found = store.count();
            if found != last {
                last = found;
                pairs += &format!("{}:{found} ", written(now()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(pairs.trim_end().to_owned())
    }
}

fn parse<T: std::str::FromStr>(word: &str) -> Result<T, Failure> {
    word.parse().map_err(|_| format!("{word} is not what the command takes"))
}

fn millis(word: &str) -> Result<Duration, Failure> {
    parse(word).map(Duration::from_millis)
}
