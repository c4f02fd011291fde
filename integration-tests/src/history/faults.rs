//! The faults of random histories.

use std::time::Duration;

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::hard::WRONG_BY;
use super::{Draw, History, REAP_TIME, random_link};

impl History {
    pub(super) fn fault(&mut self) {
        if self.draws.contains(&Draw::Clocks) && self.rng.random_bool(0.15) {
            return if self.rng.random_bool(0.5) { self.jump_clock() } else { self.sleep() };
        }
        match self.rng.random_range(0..100) {
            0..12 => self.crash(),
            12..36 => self.restart_some(),
            36..46 => self.pause(),
            46..56 => self.resume_all(),
            56..60 => self.leave(),
            60..70 => self.partition(),
            70..74 => self.cut_one_way(),
            74..84 => self.cluster.heal(),
            84..92 => {
                let link = random_link(&mut self.rng);
                self.cluster.note(&format!("links become {link:?}"));
                self.cluster.set_links(link);
            }
            92..97 => self.break_streams(),
            _ => self.long_partition(),
        }
    }

    fn crash(&mut self) {
        // One keeps running, or no node is left that remembers anything.
        if self.cluster.running().len() < 2 {
            return;
        }
        let Some(peer) = self.random_running() else { return };
        if self.rng.random_bool(0.5) {
            self.cluster.crash(peer)
        } else {
            self.cluster.kill(peer)
        }
        self.coverage.crashes += 1;
    }

    pub(super) fn restart_some(&mut self) {
        let mut ended = self.peers.clone();
        ended.retain(|peer| !self.cluster.is_running(*peer));
        let Some(&peer) = ended.choose(&mut self.rng) else { return };
        let seeds = self.peers.clone();
        self.cluster.restart(peer, &seeds);
        self.coverage.restarts += 1;
        self.join_networks(peer);
    }

    fn pause(&mut self) {
        let Some(peer) = self.random_running() else { return };
        self.cluster.pause(peer);
        self.coverage.pauses += 1;
    }

    pub(super) fn resume_all(&mut self) {
        for peer in self.cluster.running() {
            match self.cluster.is_asleep(peer) {
                true => self.cluster.wake_host(peer),
                false => self.cluster.resume(peer),
            }
        }
    }

    /// Sets the wall clock of a node, wrong but within the accepted lead.
    fn jump_clock(&mut self) {
        let Some(peer) = self.random_running() else { return };
        let offset = self.rng.random_range(-WRONG_BY..WRONG_BY);
        self.cluster.set_clock_offset(peer, offset);
        self.coverage.clock_jumps += 1;
    }

    /// Suspends a host, until all paused processes are resumed.
    fn sleep(&mut self) {
        let Some(peer) = self.random_running() else { return };
        self.cluster.sleep_host(peer);
        self.coverage.sleeps += 1;
    }

    fn leave(&mut self) {
        if self.cluster.running().len() < 2 {
            return;
        }
        let Some(peer) = self.random_running() else { return };
        self.cluster.resume(peer);
        self.cluster.leave(peer);
        self.coverage.leaves += 1;
    }

    fn partition(&mut self) {
        let mut peers = self.peers.clone();
        peers.shuffle(&mut self.rng);
        let at = self.rng.random_range(1..peers.len());
        let (left, right) = peers.split_at(at);
        self.cluster.partition(&[left, right]);
        self.coverage.partitions += 1;
    }

    fn cut_one_way(&mut self) {
        let mut peers = self.peers.clone();
        peers.shuffle(&mut self.rng);
        self.cluster.cut_one_way(peers[0], peers[1]);
        self.coverage.one_way_cuts += 1;
    }

    fn break_streams(&mut self) {
        for (index, &a) in self.peers.iter().enumerate() {
            for &b in &self.peers[index + 1..] {
                self.cluster.break_streams(a, b);
            }
        }
    }

    /// A partition longer than the reap time; both sides go on writing.
    fn long_partition(&mut self) {
        self.partition();
        self.coverage.long_partitions += 1;
        for _ in 0..self.rng.random_range(2..8) {
            self.write();
        }
        let beyond = Duration::from_millis(self.rng.random_range(0..20_000));
        self.cluster.run_for(REAP_TIME + beyond);
        for _ in 0..self.rng.random_range(0..4) {
            self.write();
        }
        self.cluster.heal();
    }
}
