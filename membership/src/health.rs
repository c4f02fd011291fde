//! Local health awareness (Dadgar et al. 2018, section IV-A).

use std::time::Duration;

/// The local health score: 0 is healthy; each point makes this node slower to suspect others.
#[derive(Debug)]
pub(crate) struct Health {
    score: u32,
    worst: u32,
}

impl Health {
    pub(crate) fn new(worst: u32) -> Self {
        Self { score: 0, worst }
    }

    pub(crate) fn score(&self) -> u32 {
        self.score
    }

    pub(crate) fn better(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    pub(crate) fn worse(&mut self, by: usize) {
        let by = u32::try_from(by).unwrap_or(u32::MAX);
        self.score = self.score.saturating_add(by).min(self.worst);
    }

    pub(crate) fn scale(&self, duration: Duration) -> Duration {
        duration * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_within_its_bounds_and_scales_times() {
        let mut health = Health::new(8);
        health.better();
        assert_eq!((health.score(), health.scale(Duration::from_secs(1))), (0, Duration::from_secs(1)));
        health.worse(3);
        health.better();
        assert_eq!((health.score(), health.scale(Duration::from_secs(1))), (2, Duration::from_secs(3)));
        health.worse(usize::MAX);
        assert_eq!(health.score(), 8);
    }
}
