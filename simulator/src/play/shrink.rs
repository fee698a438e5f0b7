//! Makes a plan that fails as small as it can while it still fails: fewer deeds, finer weather, simpler faults.

use super::plan::Plan;
use crate::world::Weather;

/// The smallest plan found by `tries_max` tries that still fails as `is_failing` says.
pub fn shrink(plan: &Plan, tries_max: usize, mut is_failing: impl FnMut(&Plan) -> bool) -> Plan {
    let mut search = Search { best: plan.clone(), tries_left: tries_max, is_failing: &mut is_failing };
    loop {
        let before = search.best.clone();
        search.fewer_deeds();
        search.finer_weather();
        search.simpler_deeds();
        if search.best == before || search.tries_left == 0 {
            return search.best;
        }
    }
}

struct Search<'a> {
    best: Plan,
    tries_left: usize,
    is_failing: &'a mut dyn FnMut(&Plan) -> bool,
}

impl Search<'_> {
    /// Takes the candidate where it fails too.
    fn try_out(&mut self, candidate: Plan) -> bool {
        if self.tries_left == 0 || candidate == self.best {
            return false;
        }
        self.tries_left -= 1;
        let is_failing = (self.is_failing)(&candidate);
        if is_failing {
            self.best = candidate;
        }
        is_failing
    }

    /// Leaves out halves, then quarters, down to single deeds.
    fn fewer_deeds(&mut self) {
        let mut size = self.best.deeds.len().div_ceil(2);
        while size > 0 && self.tries_left > 0 {
            let mut from = 0;
            while from < self.best.deeds.len() {
                let mut candidate = self.best.clone();
                candidate.deeds.drain(from..(from + size).min(candidate.deeds.len()));
                if !self.try_out(candidate) {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    fn finer_weather(&mut self) {
        self.try_out(Plan { weather: Weather::default(), ..self.best.clone() });
        self.try_out(Plan { events: (0, 0), ..self.best.clone() });
        let weather = self.best.weather;
        for finer in [
            Weather { delay: 0, ..weather },
            Weather { loss: 0, ..weather },
            Weather { duplicate: 0, ..weather },
            Weather { cut: 0, ..weather },
            Weather { slow: 0, ..weather },
        ] {
            self.try_out(Plan { weather: finer, ..self.best.clone() });
        }
        self.try_out(Plan { has_modseq: true, ..self.best.clone() });
        self.try_out(Plan { has_esearch: true, ..self.best.clone() });
    }

    fn simpler_deeds(&mut self) {
        for number in 0..self.best.deeds.len() {
            let simpler = self.best.deeds.get(number).map(|(_, deed)| deed.simpler()).unwrap_or_default();
            for deed in simpler {
                let mut candidate = self.best.clone();
                if let Some((_, place)) = candidate.deeds.get_mut(number) {
                    *place = deed;
                }
                self.try_out(candidate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::play::Deed;
    use crate::world::{Profile, Seed};

    #[test]
    fn what_does_not_matter_is_left_out() {
        let plans = (0..).map(|seed| Plan::new(Seed(seed), Profile::Hostile));
        let is_failing = |plan: &Plan| {
            let deeds = || plan.deeds.iter().map(|(_, deed)| deed);
            deeds().any(|deed| matches!(deed, Deed::Kill(_))) && deeds().any(|deed| *deed == Deed::Deliver(0))
        };
        let failing = plans.into_iter().find(is_failing).expect("most stories have both");
        let least = shrink(&failing, 1000, is_failing);
        assert_eq!(least.deeds.len(), 2, "{least}");
        assert!(is_failing(&least));
        assert_eq!(least.weather, Weather::default());
    }

    #[test]
    fn the_number_of_tries_is_kept() {
        let plan = Plan::new(Seed(3), Profile::Hostile);
        let mut tries = 0;
        shrink(&plan, 10, |_| {
            tries += 1;
            false
        });
        assert_eq!(tries, 10);
    }
}
