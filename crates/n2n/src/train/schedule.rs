//! The schedules: the learning rate and the factors of the loss at each point of a run.

use std::f64::consts::PI;

use crate::network::LossFactors;
use crate::train::config::{Config, LambdaSchedule, LrSchedule};

/// A point of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The current epoch, counted from 1.
    pub epoch: usize,
    /// The fraction of the run that has passed, 0..=1.
    pub passed: f64,
}

impl Config {
    /// The learning rate of a step.
    pub fn learning_rate(&self, moment: Moment) -> f64 {
        match (self.lr_schedule, self.time_budget) {
            (LrSchedule::Cosine | LrSchedule::Trapezoid, _) if moment.passed < self.warmup => {
                // Not from 0, so that the first step has an effect too.
                self.lr * (0.1 + 0.9 * moment.passed / self.warmup)
            }
            (LrSchedule::Cosine, _) => self.lr * cosine(self.warmup, moment.passed),
            (LrSchedule::Trapezoid, _) => self.lr * cosine(TRAPEZOID_END, moment.passed),
            (LrSchedule::Step, None) => self.rate_of_epoch(moment.epoch),
            (LrSchedule::Step, Some(_)) => {
                let fifths = [0.2, 0.4, 0.6, 0.8].into_iter();
                let met = fifths.filter(|&fifth| moment.passed >= fifth);
                met.fold(self.lr, |rate, _| rate * self.gamma)
            }
        }
    }

    /// The paper's learning rate of an epoch.
    ///
    /// It is multiplied by `gamma` at the milestones `⌊k · n_epoch / 100⌋ − 1`, k = 20, 40, 60, 80, counted in steps of
    /// the scheduler, of which one ends each epoch. In short runs, milestones coincide and multiply more than once; one
    /// at 0 applies from the first epoch; one below 0 is never reached. PyTorch's `MultiStepLR` does the same.
    fn rate_of_epoch(&self, epoch: usize) -> f64 {
        [20, 40, 60, 80]
            .into_iter()
            .map(|percent| percent * self.n_epoch / 100)
            .filter(|&milestone_plus_1| (1..=epoch).contains(&milestone_plus_1))
            .fold(self.lr, |rate, _| rate * self.gamma)
    }

    /// The factors of a step's loss. Λ is `epoch / n_epoch · increase_ratio` or, with a time budget, the fraction of it
    /// that has passed times `increase_ratio`; with a constant schedule it is `increase_ratio`. Below `min_lambda`, it
    /// is 0.
    pub fn factors(&self, moment: Moment) -> LossFactors {
        let lambda = match (self.lambda_schedule, self.time_budget) {
            (LambdaSchedule::Constant, _) => self.increase_ratio,
            (LambdaSchedule::Ramp, None) => {
                moment.epoch as f64 / self.n_epoch as f64 * self.increase_ratio
            }
            (LambdaSchedule::Ramp, Some(_)) => moment.passed * self.increase_ratio,
        };
        LossFactors {
            lambda1: self.lambda1,
            lambda2: self.lambda2,
            lambda: if lambda < self.min_lambda {
                0.0
            } else {
                lambda
            },
        }
    }
}

/// The fraction of a run after which the rate of [`LrSchedule::Trapezoid`] decreases.
const TRAPEZOID_END: f64 = 0.7;

/// Half a cosine, from 1 at `begin` to 0 at the end of the run.
fn cosine(begin: f64, passed: f64) -> f64 {
    let fallen = (passed - begin) / (1.0 - begin);
    0.5 * (1.0 + (PI * fallen.clamp(0.0, 1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::{Recipe, Span};

    fn at(epoch: usize) -> Moment {
        Moment {
            epoch,
            passed: f64::NAN,
        }
    }

    fn rates(n_epoch: usize) -> Vec<f64> {
        let config = Config {
            n_epoch,
            ..Config::default()
        };
        (1..=n_epoch)
            .map(|epoch| config.learning_rate(at(epoch)))
            .collect()
    }

    /// `torch.optim.lr_scheduler.MultiStepLR(Adam(lr=3e-4), [k * n // 100 - 1 for k in
    /// (20, 40, 60, 80)], gamma=0.5)`, the rate before each `step()`, PyTorch 2.
    #[test]
    fn learning_rates_of_short_runs_are_pytorchs() {
        const R: [f64; 5] = [3e-4, 1.5e-4, 7.5e-5, 3.75e-5, 1.875e-5];
        assert_eq!(rates(1), [R[0]]);
        assert_eq!(rates(2), [R[2], R[2]]);
        assert_eq!(rates(3), [R[2], R[3], R[3]]);
        assert_eq!(rates(4), [R[1], R[2], R[3], R[3]]);
        assert_eq!(rates(5), [R[1], R[2], R[3], R[4], R[4]]);
        assert_eq!(rates(7), [R[1], R[2], R[2], R[3], R[4], R[4], R[4]]);
        assert_eq!(
            rates(10),
            [R[0], R[1], R[1], R[2], R[2], R[3], R[3], R[4], R[4], R[4]]
        );
    }

    #[test]
    fn learning_rates_of_the_paper() {
        let rates = rates(100);
        for (epochs, rate) in [
            (1..=19, 3e-4),
            (20..=39, 1.5e-4),
            (40..=59, 7.5e-5),
            (60..=79, 3.75e-5),
            (80..=100, 1.875e-5),
        ] {
            for epoch in epochs {
                assert_eq!(rates[epoch - 1], rate, "epoch {epoch}");
            }
        }
    }

    #[test]
    fn learning_rates_follow_a_scheduler_stepped_after_each_epoch() {
        for n_epoch in 1..=250 {
            let milestones = [20, 40, 60, 80].map(|k| (k * n_epoch / 100) as i64 - 1);
            let mut rate = 3e-4;
            let mut expected = vec![];
            for step in 0..n_epoch as i64 {
                for _ in milestones.iter().filter(|&&milestone| milestone == step) {
                    rate *= 0.5;
                }
                expected.push(rate);
            }
            assert_eq!(rates(n_epoch), expected, "{n_epoch} epochs");
        }
    }

    #[test]
    fn lambda_grows_to_the_increase_ratio() {
        let config = Config::default();
        assert_eq!(config.factors(at(1)).lambda, 0.02);
        assert_eq!(config.factors(at(50)).lambda, 1.0);
        assert_eq!(config.factors(at(100)).lambda, 2.0);
    }

    #[test]
    fn a_constant_lambda_is_the_increase_ratio_throughout() {
        let config = Config {
            lambda_schedule: LambdaSchedule::Constant,
            ..Config::default()
        };
        assert_eq!(
            [1, 50, 100].map(|epoch| config.factors(at(epoch)).lambda),
            [2.0; 3]
        );
    }

    #[test]
    fn a_small_lambda_is_none() {
        let config = Config {
            min_lambda: 0.04,
            ..Config::default()
        };
        let lambdas = [1, 2, 3].map(|epoch| config.factors(at(epoch)).lambda);
        assert_eq!(lambdas, [0.0, 0.04, 0.06]);
    }

    #[test]
    fn with_a_time_budget_the_schedule_follows_the_clock() {
        let config = Config {
            time_budget: Some(Span(std::time::Duration::from_mins(1))),
            ..Config::default()
        };
        let at = |passed| {
            let moment = Moment { epoch: 1, passed };
            let factors = config.factors(moment);
            (config.learning_rate(moment), factors.lambda)
        };
        assert_eq!(at(0.0), (3e-4, 0.0));
        assert_eq!(at(0.25), (1.5e-4, 0.5));
        assert_eq!(at(0.5), (7.5e-5, 1.0));
        assert_eq!(at(1.0), (1.875e-5, 2.0));
    }

    #[test]
    fn the_trapezoid_warms_up_stays_and_falls_to_nothing() {
        let config = Config {
            lr: 2.0,
            lr_schedule: LrSchedule::Trapezoid,
            warmup: 0.1,
            ..Config::default()
        };
        let rate = |passed| config.learning_rate(Moment { epoch: 1, passed });
        for (passed, expected) in [
            (0.0, 0.2),
            (0.1, 2.0),
            (0.4, 2.0),
            (0.7, 2.0),
            (0.85, 1.0),
            (1.0, 0.0),
        ] {
            assert!((rate(passed) - expected).abs() < 1e-12, "{passed}");
        }
    }

    #[test]
    fn the_cosine_warms_up_and_falls_to_nothing() {
        let config = Config {
            lr: 2.0,
            warmup: 0.1,
            ..Recipe::Fast.config()
        };
        let rate = |passed| config.learning_rate(Moment { epoch: 1, passed });
        for (passed, expected) in [(0.0, 0.2), (0.05, 1.1), (0.1, 2.0), (0.55, 1.0), (1.0, 0.0)] {
            assert!((rate(passed) - expected).abs() < 1e-12, "{passed}");
        }
        let steps: Vec<f64> = (10..=100).map(|i| rate(f64::from(i) / 100.0)).collect();
        assert!(steps.is_sorted_by(|a, b| a > b));
    }
}
