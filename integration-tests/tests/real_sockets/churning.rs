//! Nodes that join and leave a network without a pause.

use std::time::Duration;

use integration_tests::churn::{Goals, Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_is_given_back_however_often_a_network_is_joined_and_left() {
    let report = run(Plan { nodes: 3, duration: Duration::from_secs(6) }).await.unwrap();
    // How fast it is depends on what else runs here; that nothing is given up does not.
    let goals = Goals {
        changes_a_minute: 0.0,
        slowest: Duration::from_secs(30),
        agreement: Duration::from_secs(30),
        growth: u64::MAX / 2,
    };
    let missed = report.missed(&goals);
    assert!(missed.is_empty(), "{missed:?}\n{report}");
}
