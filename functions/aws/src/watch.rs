//! Waiting for a build whose row others write: nobody calls, so one who waits looks again and again, less and less often.

use std::time::Duration;

use binplz_core::ports::Watch;
use tokio::time::{Instant, sleep_until};

/// The first pause between two looks; each later one is half as long again …
const FIRST: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(4);

/// One who waits.
#[derive(Debug)]
pub struct Polling {
    until: Instant,
    pause: Duration,
}

impl Polling {
    /// Waits for `patience` at most, from now on.
    pub fn new(patience: Duration) -> Polling {
        Polling { until: Instant::now() + patience, pause: FIRST }
    }

    /// When to look next, after a look that was made now. The last one is at the very end.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        let next = self.until.min(now + self.pause);
        self.pause = (self.pause * 3 / 2).min(LONGEST);
        (now < self.until).then_some(next)
    }
}

impl Watch for Polling {
    async fn changed(&mut self) -> bool {
        match self.next(Instant::now()) {
            Some(next) => sleep_until(next).await,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_often_first_then_seldom_and_once_more_at_the_end() {
        let began = Instant::now();
        let mut watch = Polling { until: began + Duration::from_secs(25), pause: FIRST };
        let looks = std::iter::successors(Some(began), |now| watch.next(*now));
        let looks: Vec<_> = looks.map(|look| look.duration_since(began).as_millis()).collect();
        assert_eq!(looks[..4], [0, 500, 1250, 2375]);
        assert_eq!((looks.last(), looks.len()), (Some(&25_000), 11));
    }
}
