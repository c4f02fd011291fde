//! Timers of processes.

use super::*;

#[test]
fn an_overdue_timer_fires_when_the_pause_ends() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 1);
    fabric.set_timer(ids[0], Some(milliseconds(10)));
    fabric.pause(ids[0]);
    assert_eq!(fabric.next(milliseconds(500)), None);
    fabric.resume(ids[0]);
    assert_eq!(fabric.next(SECOND), Some((ids[0], FabricEvent::Timer)));
    assert_eq!(fabric.now(), milliseconds(500));
}

#[test]
fn only_the_latest_timer_fires() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 1);
    fabric.set_timer(ids[0], Some(milliseconds(10)));
    fabric.set_timer(ids[0], Some(milliseconds(30)));
    fabric.set_timer(ids[0], Some(milliseconds(20)));
    assert_eq!(fabric.next(SECOND), Some((ids[0], FabricEvent::Timer)));
    assert_eq!(fabric.now(), milliseconds(20));
    assert_eq!(fabric.next(SECOND), None);
}
