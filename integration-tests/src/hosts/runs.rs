//! Running scenarios side by side, each on hosts of its own.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Failure;
use super::cluster::{Cluster, Plan, remove_leftovers};
use super::report::{Outcome, Report};
use super::scenarios::Scenario;

/// The report of a scenario while it runs.
#[derive(Debug)]
pub struct Run {
    report: Report,
    progress: UnboundedSender<String>,
    name: &'static str,
}

impl Run {
    /// Records a duration.
    pub fn took(&mut self, what: &'static str, time: Duration) {
        self.report_progress(&format!("{what} after {:.2} s", time.as_secs_f64()));
        self.report.times.push((what, time));
    }

    fn report_progress(&self, what: &str) {
        let _ = self.progress.send(format!("{}: {what}", self.name));
    }

    /// Records a count.
    pub fn counted(&mut self, what: &'static str, number: u64) {
        self.report.counts.push((what, number));
    }

    /// Records the packets dropped by the present faults; a fault that dropped none has tested
    /// nothing.
    pub fn dropped(&mut self, cluster: &Cluster) -> Result<(), Failure> {
        match cluster.lab().dropped()? {
            0 => Err("the fault has dropped no packet, so nothing has been tested".to_owned()),
            number => {
                self.counted("packets dropped", number);
                Ok(())
            }
        }
    }
}

/// Runs these scenarios, each with this plan, `jobs` at a time, until all have ended or `cancelled`
/// is closed. `progress` receives a line for each notable event.
pub async fn run_all(
    scenarios: Vec<Scenario>,
    plan: Plan,
    jobs: usize,
    progress: UnboundedSender<String>,
    cancelled: watch::Receiver<()>,
) -> Result<Vec<Outcome>, Failure> {
    for name in remove_leftovers()? {
        let _ = progress.send(format!("removed {name}, which a killed run had left"));
    }
    let mut waiting = scenarios.into_iter();
    let mut running = tokio::task::JoinSet::new();
    let mut outcomes = Vec::new();
    loop {
        while running.len() < jobs.max(1)
            && let Some(scenario) = waiting.next()
        {
            let plan = plan.clone();
            let (progress, cancelled) = (progress.clone(), cancelled.clone());
            let _ = progress.send(format!("{}: {}", scenario.name, scenario.description));
            // Each scenario has a thread: a blocking call of one must not delay the timers of
            // others.
            running.spawn_blocking(move || on_this_thread(scenario, plan, progress, cancelled));
        }
        match running.join_next().await {
            None => return Ok(outcomes),
            Some(Ok(outcome)) => {
                let outcome = outcome?;
                let verdict = if outcome.result.is_ok() { "passed" } else { "FAILED" };
                let seconds = outcome.report.took.as_secs_f64();
                let _ = progress.send(format!("{}: {verdict} after {seconds:.0} s", outcome.name));
                outcomes.push(outcome);
            }
            Some(Err(error)) => return Err(format!("a scenario failed: {error}")),
        }
    }
}

fn on_this_thread(
    scenario: Scenario,
    plan: Plan,
    progress: UnboundedSender<String>,
    mut cancelled: watch::Receiver<()>,
) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot make a runtime: {error}"))?;
    runtime.block_on(async {
        tokio::select! {
            outcome = run_scenario(scenario, plan, progress) => Ok(outcome),
            // Dropping the scenario drops its cluster, which removes its hosts.
            _ = cancelled.changed() => Err(format!("{} was cancelled", scenario.name)),
        }
    })
}

async fn run_scenario(scenario: Scenario, mut plan: Plan, progress: UnboundedSender<String>) -> Outcome {
    let begun = Instant::now();
    let mut run = Run { report: Report::default(), progress, name: scenario.name };
    (scenario.prepare)(&mut plan);
    let result = match Cluster::start(&plan).await {
        Err(error) => Err(format!("the cluster did not start: {error}")),
        Ok(mut cluster) => {
            run.took("together", begun.elapsed());
            let result = run_to_the_end(&scenario, &mut run, &mut cluster).await;
            run.counted("writes", cluster.ledger.lock().acknowledged() as u64);
            if plan.keep_logs {
                run.report_progress(&format!("the logs are in {}", cluster.keep_logs().display()));
            }
            result.map_err(|error| {
                let tail = cluster.log_tail();
                format!("{error}\n{tail}the logs are in {}", cluster.keep_logs().display())
            })
        }
    };
    run.report.took = begun.elapsed();
    Outcome { name: scenario.name, report: run.report, result }
}

async fn run_to_the_end(scenario: &Scenario, run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    (scenario.run)(run, cluster).await?;
    cluster.settle().await?;
    run.counted("changes shown", cluster.seen_so_far()?);
    Ok(())
}
