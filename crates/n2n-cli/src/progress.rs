//! Progress of long work, with its rate and the time left: a bar on a terminal, elsewhere a line every few seconds.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ui::Ui;

/// Time between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Steps of the whole bar.
const STEPS: u64 = 1000;

/// Time between updates of the elapsed time: a pass of the network may take seconds, in which the bar stands still.
const TICK: Duration = Duration::from_millis(250);

/// The progress of one piece of work; the bar disappears when it is dropped.
pub struct Progress {
    ui: Ui,
    bar: ProgressBar,
    /// What is counted, in the singular.
    item: &'static str,
    started: Instant,
    line_at: Instant,
}

impl Progress {
    /// The progress of work that starts now, on items of this name, in the singular.
    pub fn new(ui: Ui, item: &'static str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {bar:30} {elapsed} {wide_msg}")
            .expect("a valid template");
        let started = Instant::now();
        let bar = ui.progress(STEPS).with_style(style);
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self {
            ui,
            bar,
            item,
            started,
            line_at: started,
        }
    }

    /// Counts items of another name from now on.
    pub fn count(&mut self, item: &'static str) {
        self.item = item;
    }

    /// Shows that `done` of `total` items are done, parts of an item included, and what is being worked on.
    pub fn show(&mut self, done: f64, total: usize, now: &str) {
        if self.is_due() {
            let text = counted((done, total), self.item, self.started.elapsed(), now);
            self.print(done / total.max(1) as f64, text);
        }
    }

    /// Shows how much is done, from 0 to 1, of work that has no items, and what is being worked on.
    pub fn show_part(&mut self, part: f64, now: &str) {
        if self.is_due() {
            let text = percent(part, self.started.elapsed(), now);
            self.print(part, text);
        }
    }

    /// Whether anything would be shown now.
    pub fn is_due(&self) -> bool {
        if self.ui.wants_lines() {
            self.line_at.elapsed() >= LINE_EVERY
        } else {
            !self.bar.is_hidden()
        }
    }

    fn print(&mut self, part: f64, text: String) {
        if self.ui.wants_lines() {
            self.line_at = Instant::now();
            self.ui.note(text);
        } else {
            self.bar.set_position((STEPS as f64 * part) as u64);
            self.bar.set_message(text);
        }
    }

    /// Hides the bar while `print` prints.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `3/16 images, 2.1 images/s, 6s left: a.png`
fn counted((done, total): (f64, usize), item: &str, elapsed: Duration, now: &str) -> String {
    let mut parts = vec![format!("{}/{total} {item}s", done as usize)];
    let rate = done / elapsed.as_secs_f64();
    // Unknown before anything is done.
    if rate > 0.0 && rate.is_finite() {
        parts.push(if rate >= 1.0 {
            format!("{rate:.1} {item}s/s")
        } else {
            format!("{:.1} s/{item}", 1.0 / rate)
        });
    }
    parts.extend(left(done / total as f64, elapsed));
    joined(&parts, now)
}

/// `35 %, 6s left: a.png`; before anything is done, `a.png`.
fn percent(part: f64, elapsed: Duration, now: &str) -> String {
    if part == 0.0 {
        return now.into();
    }
    let mut parts = vec![format!("{:.0} %", 100.0 * part)];
    parts.extend(left(part, elapsed));
    joined(&parts, now)
}

/// The time left at the rate so far; unknown before anything is done.
fn left(part: f64, elapsed: Duration) -> Option<String> {
    let seconds = (part > 0.0).then(|| elapsed.as_secs_f64() * (1.0 / part - 1.0))?;
    let left = Duration::try_from_secs_f64(seconds.max(0.0).round()).ok()?;
    Some(format!("{} left", humantime::format_duration(left)))
}

fn joined(parts: &[String], now: &str) -> String {
    let text = parts.join(", ");
    if now.is_empty() {
        text
    } else {
        format!("{text}: {now}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_follow_from_what_is_done() {
        let text = |done, total, seconds, now| {
            counted((done, total), "image", Duration::from_secs(seconds), now)
        };
        assert_eq!(text(0.0, 3, 5, "a.png"), "0/3 images: a.png");
        assert_eq!(text(0.0, 3, 0, ""), "0/3 images");
        assert_eq!(
            text(3.5, 16, 7, "b.png"),
            "3/16 images, 2.0 s/image, 25s left: b.png"
        );
        assert_eq!(
            text(40.0, 100, 8, ""),
            "40/100 images, 5.0 images/s, 12s left"
        );
        assert_eq!(text(1.0, 1, 4, ""), "1/1 images, 4.0 s/image, 0s left");
    }

    #[test]
    fn work_without_items_is_shown_in_percent() {
        let text = |part, seconds| percent(part, Duration::from_secs(seconds), "large.tif");
        // Work in one piece, such as an image of one tile, is at 0 until it is done.
        assert_eq!(text(0.0, 5), "large.tif");
        assert_eq!(text(0.25, 30), "25 %, 1m 30s left: large.tif");
        assert_eq!(text(1.0, 4), "100 %, 0s left: large.tif");
    }
}
