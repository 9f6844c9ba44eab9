//! The budget, how much of it is left, and the events reported while it is spent.

use std::fmt::{self, Display};
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

// The clock of the standard library, or of the browser on WebAssembly.
use web_time::Instant;

use crate::error::{Error, Result};
use crate::train::config::Span;

/// How long to learn; written as `3m` or `90s`, or as a number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// This many steps in total.
    Steps(usize),
    /// This much time, including the comparisons of models and of stages, but not the first and the last measurement of
    /// the held-out loss.
    Time(Duration),
}

/// Something that happened while a model was fitted.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An image cannot be used and is skipped.
    Skipped {
        /// The image and the reason.
        error: &'a Error,
    },
    /// The fraction of the budget that has been used, 0 to 1.
    Progress(f64),
    /// A point of the learning curve: see [`Config::curve_points`](super::Config::curve_points).
    HeldOut {
        /// The fraction of the budget that has been used, 0 to 1.
        passed: f64,
        /// The Neighbor2Neighbor loss at that point, on one draw of neighbors per crop: comparable with other points
        /// only, not with [`Adapted::losses`](super::Adapted::losses).
        loss: f64,
    },
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(steps) = text.parse() {
            return Ok(Self::Steps(steps));
        }
        match text.parse::<Span>() {
            Ok(Span(time)) => Ok(Self::Time(time)),
            Err(_) => Err(Error::value(
                "budget",
                "a time such as 90s or 3m, or a number of steps",
                format!("'{text}'"),
            )),
        }
    }
}

impl Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Time(time) => Span(*time).fmt(f),
        }
    }
}

/// Called for every event; it can stop the work.
pub(super) type OnEvent<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// The budget, and what is left of it.
pub(super) struct Clock<'a> {
    budget: Budget,
    started: Instant,
    on_event: &'a mut OnEvent<'a>,
    /// The current part of the budget: where it begins and ends, 0 to 1.
    part: (f64, f64),
    /// When the part began, and steps taken in it.
    begun: Duration,
    steps: usize,
    /// Whether any step has been taken, in any part.
    has_learned: bool,
    is_stopped: bool,
    /// Points of the learning curve: how many to measure, and the next one.
    points: usize,
    next_point: usize,
}

impl<'a> Clock<'a> {
    pub(super) fn new(budget: Budget, points: usize, on_event: &'a mut OnEvent<'a>) -> Self {
        Self {
            budget,
            started: Instant::now(),
            on_event,
            part: (0.0, 1.0),
            begun: Duration::ZERO,
            steps: 0,
            has_learned: false,
            is_stopped: false,
            points,
            next_point: 0,
        }
    }

    /// Begins a part of the budget.
    pub(super) fn begin(&mut self, from: f64, to: f64) {
        self.part = (from, to);
        self.begun = self.started.elapsed();
        self.steps = 0;
    }

    /// Counts a step that is about to be taken, and returns the fraction of the part that has been used before it, at
    /// least 0 and below 1; `None` if the part is over.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the caller stops the work before the first step.
    pub(super) fn tick(&mut self) -> Result<Option<f64>> {
        if self.is_stopped {
            return Ok(None);
        }
        let (from, to) = self.part;
        let passed = match self.budget {
            Budget::Steps(steps) => {
                let of = |part: f64| (part * steps as f64).round() as usize;
                self.steps as f64 / (of(to) - of(from)) as f64
            }
            Budget::Time(time) => {
                let begun = self.begun.as_secs_f64();
                let left = (to * time.as_secs_f64() - begun).max(0.0);
                (self.started.elapsed().as_secs_f64() - begun) / left
            }
        };
        // 0 / 0 in an empty part.
        if passed.is_nan() || passed >= 1.0 {
            return Ok(None);
        }
        self.tell(Event::Progress(from + passed * (to - from)))?;
        if self.is_stopped {
            return Ok(None);
        }
        self.steps += 1;
        self.has_learned = true;
        Ok(Some(passed))
    }

    /// Reports a point of the learning curve, if one is due. `passed` is the fraction of the part that has been used;
    /// `loss` measures the point.
    pub(super) fn plot(&mut self, passed: f64, loss: impl FnOnce() -> Result<f64>) -> Result<()> {
        let (from, to) = self.part;
        let passed = from + passed * (to - from);
        let point = (passed * self.points as f64) as usize;
        if self.points == 0 || point < self.next_point {
            return Ok(());
        }
        self.next_point = point + 1;
        let loss = loss()?;
        self.tell(Event::HeldOut { passed, loss })
    }

    /// Reports an event. If the caller stops the work, no further step is taken.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the caller stops it before the first step.
    fn tell(&mut self, event: Event) -> Result<()> {
        if (self.on_event)(event).is_break() {
            self.is_stopped = true;
            if !self.has_learned {
                return Err(Error::Stopped);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_may_be_longer_than_any_time() {
        let budget = format!("{}s", u64::MAX).parse().unwrap();
        let mut told = vec![];
        let mut on_event = |event: Event| {
            if let Event::Progress(passed) = event {
                told.push(passed);
            }
            ControlFlow::Continue(())
        };
        let mut clock = Clock::new(budget, 0, &mut on_event);
        clock.begin(0.0, 1.0);
        // The budget is so large that a test takes less than 1e-9 of it.
        assert!(clock.tick().unwrap().unwrap() < 1e-9);
        assert!(told[0] < 1e-9);
    }

    #[test]
    fn a_budget_is_a_time_or_a_number_of_steps() {
        for text in ["3m", "1m 30s", "2000", "0"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "3 parsecs", "1.5"] {
            let error = text.parse::<Budget>().unwrap_err().to_string();
            assert!(error.contains("3m"), "{error}");
        }
    }
}
