use std::collections::BTreeMap;

use wire::NodeName;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn to(number: u32) -> Destination {
    let name = NodeName::new(&format!("n{number}")).unwrap();
    Destination { name: Some(name), address: SocketAddr::from((number.to_be_bytes(), 7946)) }
}

fn settings() -> DialSettings {
    DialSettings {
        most: 64,
        timeout: 3 * SECOND,
        timeout_most: 20 * SECOND,
        backoff: 200 * MILLISECOND,
        backoff_most: 3 * SECOND,
        backoff_unanswered: 60 * SECOND,
    }
}

fn policy() -> DialPolicy {
    DialPolicy::new(settings(), 1)
}

fn is_dial(turn: Turn) -> bool {
    matches!(turn, Turn::Dial { .. })
}

/// Starts as many dials as the policy allows, out of an endless supply. Each takes `time(running)`.
/// Returns the largest number of concurrent dials in the last second, and the number of dials that timed
/// out.
fn load(
    policy: &mut DialPolicy,
    from: Duration,
    seconds: u64,
    time: impl Fn(usize) -> Duration,
) -> (usize, usize) {
    let (mut next, mut widest, mut given_up) = (1000, 0, 0);
    let mut ends: BTreeMap<(Duration, u32), DialEnd> = BTreeMap::new();
    let over = from + Duration::from_secs(seconds);
    let mut now = from;
    while now < over {
        while let Some((&(at, number), &end)) = ends.first_key_value()
            && at <= now
        {
            ends.pop_first();
            given_up += usize::from(end == DialEnd::Unanswered);
            policy.end(&to(number), end, now);
        }
        while let Turn::Dial { timeout } = policy.begin(&to(next), now) {
            let takes = time(policy.running());
            let end = if takes < timeout { DialEnd::Connected } else { DialEnd::Unanswered };
            ends.insert((now + takes.min(timeout), next), end);
            next += 1;
        }
        if now + SECOND >= over {
            widest = widest.max(policy.running());
        }
        now += MILLISECOND;
    }
    for ((_, number), end) in ends {
        policy.end(&to(number), end, now);
    }
    (widest, given_up)
}

#[test]
fn few_dials_run_at_first_and_one_per_address() {
    let mut policy = policy();
    assert_eq!(policy.begin(&to(1), SECOND), Turn::Dial { timeout: 3 * SECOND });
    assert_eq!(policy.begin(&to(1), SECOND), Turn::UnderWay);
    let seed = Destination { name: None, ..to(1) };
    assert_eq!(policy.begin(&seed, SECOND), Turn::UnderWay, "the address is being dialled already");
    let turns = (2..100).filter(|number| is_dial(policy.begin(&to(*number), SECOND))).count();
    assert_eq!(turns, 3);
    assert_eq!(policy.begin(&to(100), SECOND), Turn::Full);
    policy.end(&to(1), DialEnd::Connected, SECOND);
    assert!(is_dial(policy.begin(&to(100), SECOND)));
}

#[test]
fn the_window_grows_while_dials_are_fast_up_to_its_limit() {
    let mut policy = policy();
    let (widest, given_up) = load(&mut policy, SECOND, 2, |_| 5 * MILLISECOND);
    assert_eq!((widest, given_up), (64, 0));
}

#[test]
fn where_dials_slow_each_other_down_few_run_and_none_times_out() {
    // Each takes 40 ms of a shared processor: 64 at a time would take 2.5 s each.
    let mut policy = policy();
    let (widest, given_up) = load(&mut policy, SECOND, 10, |running| 40 * MILLISECOND * running as u32);
    assert!((2..=16).contains(&widest), "{widest}");
    assert_eq!(given_up, 0);
}

#[test]
fn the_timeout_of_a_dial_follows_the_measured_times() {
    let mut policy = policy();
    assert_eq!(policy.timeout(SECOND), 3 * SECOND);
    load(&mut policy, SECOND, 20, |_| 2500 * MILLISECOND);
    let slow = policy.timeout(21 * SECOND);
    assert!((7 * SECOND..=20 * SECOND).contains(&slow), "{slow:?}");
    load(&mut policy, 21 * SECOND, 3, |_| 5 * MILLISECOND);
    assert_eq!(policy.timeout(24 * SECOND), 3 * SECOND);
    assert!(policy.expected(24 * SECOND).unwrap() < 20 * MILLISECOND);
}

#[test]
fn the_weight_of_old_measurements_decays() {
    let mut policy = policy();
    load(&mut policy, SECOND, 20, |_| 2500 * MILLISECOND);
    assert!(policy.expected(21 * SECOND).unwrap() > 2 * SECOND);
    assert!(policy.expected(121 * SECOND).unwrap() < 20 * MILLISECOND);
}

#[test]
fn unanswered_dials_shrink_the_window_and_lengthen_the_timeout() {
    let mut policy = policy();
    let (_, given_up) = load(&mut policy, SECOND, 60, |_| 100 * SECOND);
    assert!(given_up > 0);
    assert_eq!(policy.window(), 1);
    assert!(policy.timeout(61 * SECOND) > 10 * SECOND);
    // The first answer resets that.
    assert!(is_dial(policy.begin(&to(1), 100 * SECOND)));
    policy.end(&to(1), DialEnd::Connected, 100 * SECOND + 5 * MILLISECOND);
    assert_eq!(policy.timeout(101 * SECOND), 3 * SECOND);
}

#[test]
fn dials_to_absent_hosts_do_not_block_other_dials() {
    let mut policy = policy();
    load(&mut policy, SECOND, 2, |_| 5 * MILLISECOND);
    let mut now = 3 * SECOND;
    // Every sixteenth dial is for an absent host: in total several times as many as the initial window.
    let (mut dialled, mut absent) = (0, Vec::new());
    for number in 0..2000 {
        if number % 16 == 0 {
            if is_dial(policy.begin(&to(10_000 + number), now)) {
                absent.push((now, 10_000 + number));
            }
        } else if is_dial(policy.begin(&to(number), now)) {
            now += 5 * MILLISECOND;
            policy.end(&to(number), DialEnd::Connected, now);
            dialled += 1;
        }
        now += 5 * MILLISECOND;
        while let Some(&(at, number)) = absent.first()
            && now >= at + 3 * SECOND
        {
            absent.remove(0);
            policy.end(&to(number), DialEnd::Unanswered, now);
        }
    }
    assert!(dialled > 1800, "{dialled} of 1875, {} absent running", absent.len());
    assert!(policy.window() > 1, "{}", policy.window());
}

#[test]
fn the_backoff_of_a_destination_doubles_with_jitter() {
    let mut pauses = Vec::new();
    for seed in 0..20 {
        let mut policy = DialPolicy::new(settings(), seed);
        let mut now = SECOND;
        let mut of_this = Vec::new();
        for _ in 0..11 {
            assert!(is_dial(policy.begin(&to(1), now)));
            policy.end(&to(1), DialEnd::Refused, now);
            let Turn::NotBefore(until) = policy.begin(&to(1), now) else { panic!() };
            assert_eq!(policy.begin(&to(1), until - MILLISECOND), Turn::NotBefore(until));
            of_this.push(until - now);
            now = until;
        }
        for (number, pause) in of_this.iter().enumerate() {
            let most = (200 * MILLISECOND * 2u32.pow(number as u32)).min(60 * SECOND);
            assert!((most / 2..=most).contains(pause), "{number}: {pause:?}");
        }
        pauses.push(of_this);
    }
    let first: std::collections::BTreeSet<_> = pauses.iter().map(|pauses| pauses[0]).collect();
    assert!(first.len() > 15, "{first:?}");
}

/// A member that announces the address of a third party makes the whole cluster dial that address.
#[test]
fn an_address_that_never_answered_is_dialled_once_a_minute_and_one_that_did_every_few_seconds() {
    let seed = Destination { name: None, ..to(3) };
    let dials_in_ten_minutes = |to: &Destination, has_answered: bool| {
        let mut policy = policy();
        let mut now = SECOND;
        if has_answered {
            assert!(is_dial(policy.begin(to, now)));
            policy.end(to, DialEnd::Connected, now);
        }
        let mut dials = 0;
        while now < 600 * SECOND {
            match policy.begin(to, now) {
                Turn::Dial { timeout } => {
                    dials += 1;
                    now += timeout;
                    policy.end(to, DialEnd::Unanswered, now);
                }
                Turn::NotBefore(until) => now = until,
                turn => panic!("{turn:?}"),
            }
            policy.purge(now);
        }
        dials
    };
    let (strange, known, given) = (
        dials_in_ten_minutes(&to(1), false),
        dials_in_ten_minutes(&to(2), true),
        dials_in_ten_minutes(&seed, false),
    );
    assert!((12..=25).contains(&strange), "{strange}");
    assert!(known > 2 * strange && given > 2 * strange, "{known} and {given} beside {strange}");
}

/// Some peers of a stable cluster have crashed: the others still send gossip.
#[test]
fn dials_to_dead_peers_cost_no_patience_while_others_are_heard() {
    let is_slowed = |hears_others: bool| {
        let mut policy = policy();
        let mut now = SECOND;
        for dead in 0..40 {
            assert!(is_dial(policy.begin(&to(dead), now)));
            now += 3 * SECOND;
            if hears_others {
                policy.hear(now - SECOND);
            }
            policy.end(&to(dead), DialEnd::Unanswered, now);
        }
        (policy.window() < 4, policy.timeout(now) > 3 * SECOND)
    };
    assert_eq!(is_slowed(true), (false, false));
    assert_eq!(is_slowed(false), (true, true), "then the cause may be congestion");
}

#[test]
fn patience_ends_when_a_peer_is_heard() {
    let mut policy = policy();
    load(&mut policy, SECOND, 60, |_| 100 * SECOND);
    assert!(policy.timeout(62 * SECOND) > 10 * SECOND);
    policy.hear(62 * SECOND);
    assert_eq!(policy.timeout(62 * SECOND), 3 * SECOND);
}

/// As after a network partition: unanswered dials have long timeouts, and QUIC repeats their packets at
/// growing intervals.
#[test]
fn a_long_dial_begins_again_once_after_another_peer_was_heard() {
    let mut policy = policy();
    let mut now = SECOND;
    let timeout = loop {
        let Turn::Dial { timeout } = policy.begin(&to(1), now) else { panic!("not its turn") };
        if timeout > 10 * SECOND {
            break timeout;
        }
        now += timeout;
        policy.end(&to(1), DialEnd::Unanswered, now);
        now += 3 * SECOND;
    };
    let begun = now;
    assert_eq!(policy.renewal_due(&to(1), begun + 5 * SECOND), None, "nobody was heard");
    policy.hear(begun + SECOND);
    assert_eq!(policy.renewal_due(&to(1), begun + SECOND), Some(begun + 3 * SECOND));
    assert_eq!(policy.renew(&to(1), begun + SECOND), None, "its first packets are still repeated often");

    let renewed = begun + 3 * SECOND;
    assert!(policy.renew(&to(1), renewed).is_some_and(|new_timeout| new_timeout <= timeout));
    policy.handshake_succeeded(|other| other == &to(3), renewed + SECOND);
    assert_eq!(policy.renewal_due(&to(1), renewed + 9 * SECOND), None, "once is enough");
}

#[test]
fn a_dial_begun_under_congestion_may_take_as_long_as_dials_take_now() {
    let mut policy = policy();
    for number in 1..=4 {
        assert!(is_dial(policy.begin(&to(number), SECOND)));
    }
    policy.end(&to(1), DialEnd::Connected, 3 * SECOND);
    let due = policy.renewal_due(&to(2), 3 * SECOND);
    assert_eq!(due, None, "it times out before");
    assert!(is_dial(policy.begin(&to(5), 3 * SECOND)));
    policy.handshake_succeeded(|other| other == &to(9), 4 * SECOND);
    let expected = policy.expected(4 * SECOND).unwrap();
    let due = policy.renewal_due(&to(5), 4 * SECOND).unwrap();
    assert!(
        expected > 4 * SECOND && due == 3 * SECOND + expected * 3,
        "{due:?} where {expected:?} are expected"
    );
}

#[test]
fn a_handshake_with_a_peer_ends_its_backoff() {
    let mut policy = policy();
    assert!(is_dial(policy.begin(&to(1), SECOND)));
    policy.end(&to(1), DialEnd::Unanswered, 2 * SECOND);
    assert!(policy.has_failure(&to(1)));
    policy.handshake_succeeded(|other| other.address == to(1).address, 2 * SECOND);
    assert!(is_dial(policy.begin(&to(1), 2 * SECOND)));
    policy.end(&to(1), DialEnd::Unanswered, 3 * SECOND);
    policy.clear_failures();
    assert!(is_dial(policy.begin(&to(1), 3 * SECOND)));
}

#[test]
fn failures_expire_and_are_bounded_in_number() {
    let mut policy = DialPolicy::new(DialSettings { most: usize::MAX, ..settings() }, 1);
    for number in 0..20_000 {
        let at = SECOND;
        if is_dial(policy.begin(&to(number), at)) {
            policy.end(&to(number), DialEnd::Refused, at);
        }
    }
    assert_eq!(policy.failures.len(), MAX_FAILURES);
    policy.purge(200 * SECOND);
    assert!(policy.failures.is_empty());
}
