//! How long writes and syncs took, as they are counted.

use wire::Histogram;

use super::*;

/// The times that were added since `before`: their number and their sum.
fn added(now: &Histogram, before: &Histogram) -> (u64, Duration) {
    (now.count() - before.count(), now.sum() - before.sum())
}

#[test]
fn a_write_takes_the_time_from_its_version_to_its_arrival() {
    let mut cluster = Cluster::joined(2);
    let before = cluster.replicas[1].latencies().propagation.clone();
    let took = |cluster: &Cluster| added(&cluster.replicas[1].latencies().propagation, &before);
    cluster.part(0, 1);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(3));
    assert_eq!(took(&cluster).0, 0);
    cluster.heal();
    cluster.run(Duration::from_secs(30));
    let (count, sum) = took(&cluster);
    assert_eq!(count, 1, "once, whatever brings it again");
    assert!(sum >= Duration::from_secs(3) && sum < Duration::from_secs(30), "{sum:?}");
    assert_eq!(cluster.replicas[0].latencies().propagation.count(), 0, "its writer does not wait for it");
    // The clock of the receiver is an hour behind that of the writer.
    let (now, wall) = (cluster.now, Duration::from_secs(1_000_000 - 3600));
    cluster.replicas[1].handle_wall_clock(wall, now);
    cluster.create(0, "l", "v");
    cluster.settle();
    assert_eq!(took(&cluster), (2, sum), "0, not less");
}

#[test]
fn what_an_initial_sync_brings_was_not_on_its_way() {
    let mut cluster = Cluster::strangers(2, |_| {});
    cluster.join(0);
    cluster.settle();
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(10));
    cluster.join(1);
    cluster.settle();
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"));
    let latencies = cluster.replicas[1].latencies();
    assert_eq!((latencies.propagation.count(), latencies.full_sync.count()), (0, 1));
}
