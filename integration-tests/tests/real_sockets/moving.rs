//! A client of a watch that is moved between nodes.

use integration_tests::watch_moves::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_moved_between_nodes_has_their_table() {
    let report = run(Plan { moves: 25, faults: false, seed: 1 }).await.unwrap();
    assert!(report.wrong.is_empty() && report.moves == 25, "{report}");
}
