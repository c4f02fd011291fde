//! What real hosts are made of: that faults are faults, and that everything is taken away again.
//!
//! The scenarios themselves are run by the program `hosts`, with the release binary. Only root can make hosts; for others
//! these tests say so and pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::hosts::{Faults, Inside, Lab, Namespace, Rate, require, sweep};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

/// Whether hosts can be made here; if not, says why.
fn possible() -> bool {
    require().map_err(|why| println!("SKIPPED: {why}")).is_ok()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn there(name: &str) -> bool {
    std::path::Path::new("/run/netns").join(name).exists()
}

/// Sends so many packets of so many bytes from one host to another; gives how many arrived, and after how long the last.
async fn arrived(lab: &Lab, from: usize, to: usize, packets: usize, bytes: usize) -> (usize, Duration) {
    let address = lab.address(to);
    let (bound, ready) = tokio::sync::oneshot::channel();
    let hearing = lab.inside(to).spawn(async move {
        let socket = UdpSocket::bind((address, 0)).await.expect("a socket");
        bound.send(socket.local_addr().expect("its address")).expect("the test waits for it");
        let (mut heard, mut buffer) = (0, vec![0; 2048]);
        let begun = Instant::now();
        let mut last = begun.elapsed();
        // Far more than a packet takes that is not lost, also on a busy machine.
        while heard < packets && timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await.is_ok() {
            heard += 1;
            last = begun.elapsed();
        }
        (heard, last)
    });
    let target = ready.await.expect("the other side listens");
    let sending = lab.inside(from).spawn(async move {
        let socket = UdpSocket::bind("0.0.0.0:0").await.expect("a socket");
        for packet in 0..packets {
            socket.send_to(&vec![0; bytes], target).await.expect("it can be sent");
            // In portions that the receiver's buffer holds.
            if packet % 20 == 19 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    sending.await.expect("nothing goes wrong");
    hearing.await.expect("nothing goes wrong")
}

#[test]
fn cuts_are_between_those_they_name_and_in_the_direction_they_name() {
    if !possible() {
        return;
    }
    let lab = Lab::new(3).expect("hosts");
    runtime().block_on(async {
        assert_eq!(arrived(&lab, 0, 1, 1, 100).await.0, 1, "all hear each other at first");
        lab.set_faults(&Faults::one_way(&[0], &[1])).expect("faults");
        assert_eq!(arrived(&lab, 0, 1, 1, 100).await.0, 0, "h2 does not hear h1");
        assert_eq!(arrived(&lab, 1, 0, 1, 100).await.0, 1, "h1 hears h2");
        assert_eq!(arrived(&lab, 0, 2, 1, 100).await.0, 1, "h3 hears h1");
        assert!(lab.dropped().expect("a count") > 0);
        lab.set_faults(&Faults::partition(&[0, 1], &[2])).expect("faults");
        assert_eq!(arrived(&lab, 0, 2, 1, 100).await.0, 0);
        assert_eq!(arrived(&lab, 2, 1, 1, 100).await.0, 0);
        assert_eq!(arrived(&lab, 0, 1, 1, 100).await.0, 1);
        lab.set_faults(&Faults::default()).expect("no faults");
        assert_eq!(arrived(&lab, 0, 2, 1, 100).await.0, 1, "it has healed");
    });
}

#[test]
fn loss_loses_about_as_much_as_it_says() {
    if !possible() {
        return;
    }
    let lab = Lab::new(2).expect("hosts");
    runtime().block_on(async {
        lab.set_faults(&Faults::loss(20)).expect("faults");
        arrived(&lab, 0, 1, 2000, 100).await;
        let dropped = lab.dropped().expect("a count");
        // Five standard deviations either way. A busy machine loses more, in the receiver's buffer, but not there.
        assert!((310..=490).contains(&dropped), "{dropped} of 2000 packets were dropped");
    });
}

#[test]
fn a_slow_link_is_as_slow_as_it_says_in_both_directions() {
    if !possible() {
        return;
    }
    let lab = Lab::new(2).expect("hosts");
    runtime().block_on(async {
        let rate = Rate { bits_per_second: 1_000_000, queue_ms: 400 };
        lab.set_rate(1, Some(rate)).expect("a slow link");
        for (from, to) in [(0, 1), (1, 0)] {
            // 30 KB are 0.24 s of a megabit a second, but for the bucket of 5 KB.
            let (heard, after) = arrived(&lab, from, to, 30, 1000).await;
            assert_eq!(heard, 30, "the queue holds them");
            assert!(after > Duration::from_millis(180), "they took {after:?}");
        }
        lab.set_rate(1, None).expect("a fast link");
        // A busy machine may take its time too, but not always.
        let mut quickest = Duration::MAX;
        for _ in 0..10 {
            quickest = quickest.min(arrived(&lab, 0, 1, 30, 1000).await.1);
        }
        assert!(quickest < Duration::from_millis(180), "they took {quickest:?}");
    });
}

#[test]
fn hosts_are_taken_away_after_a_panic_with_all_that_runs_on_them() {
    if !possible() {
        return;
    }
    let mut seen = Vec::new();
    let mut sleeper = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::new(2).expect("hosts");
        seen = lab.namespaces();
        assert!(seen.iter().all(|name| there(name)), "{seen:?}");
        let started = runtime().block_on(lab.inside(0).run(async {
            Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("sleep is everywhere")
        }));
        sleeper = Some(started.expect("it runs"));
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
    assert_eq!(seen.len(), 3);
    assert!(!seen.iter().any(|name| there(name)), "left: {seen:?}");
    let status = sleeper.expect("it was started").wait().expect("it has ended");
    assert!(!status.success(), "it did not end by itself");
}

#[test]
fn what_dead_runs_left_is_swept_and_what_living_ones_have_is_not() {
    if !possible() {
        return;
    }
    let ours = Namespace::new("kept").expect("a namespace");
    // No process has number 1 and was started at the 18446744073709551615th tick.
    let left = format!("networkdb-1-{}-0-left", u64::MAX);
    let added = Command::new("ip").args(["netns", "add", &left]).status().expect("ip runs");
    assert!(added.success() && there(&left));
    // Another run may be quicker.
    sweep().expect("nothing stands in the way");
    assert!(!there(&left), "{left} was not swept");
    assert!(there(ours.name()), "{} belongs to a living run", ours.name());
    Inside::enter(ours.name()).expect("it is a namespace still");
}
