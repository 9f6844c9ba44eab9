//! Progress of long work, with its rate and the time left: a bar on a terminal, elsewhere a line every few seconds.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ui::Ui;

/// Time between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Steps of the bar for one item.
const STEPS: f64 = 1000.0;

/// The progress of work on items of one kind; the bar disappears when it is dropped.
pub struct Progress {
    ui: Ui,
    bar: ProgressBar,
    /// What an item is called, in the singular.
    item: &'static str,
    started: Instant,
    line_at: Instant,
}

impl Progress {
    /// The progress of work that starts now.
    pub fn new(ui: Ui, item: &'static str) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {wide_msg}").expect("a valid template");
        let started = Instant::now();
        Self {
            ui,
            bar: ui.progress(0).with_style(style),
            item,
            started,
            line_at: started,
        }
    }

    /// Shows that `done` of `total` items are done, parts of an item included, and what is being worked on.
    pub fn show(&mut self, done: f64, total: usize, now: &str) {
        let is_due = self.ui.wants_lines() && self.line_at.elapsed() >= LINE_EVERY;
        if !is_due && self.bar.is_hidden() {
            return;
        }
        let text = text((done, total), self.item, self.started.elapsed(), now);
        if is_due {
            self.line_at = Instant::now();
            self.ui.note(text);
        } else {
            self.bar.set_length((STEPS * total as f64) as u64);
            self.bar.set_position((STEPS * done) as u64);
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
fn text((done, total): (f64, usize), item: &str, elapsed: Duration, now: &str) -> String {
    let mut parts = vec![format!("{}/{total} {item}s", done as usize)];
    let rate = done / elapsed.as_secs_f64();
    // Neither is known before anything is done.
    if rate > 0.0 && rate.is_finite() {
        parts.push(if rate >= 1.0 {
            format!("{rate:.1} {item}s/s")
        } else {
            format!("{:.1} s/{item}", 1.0 / rate)
        });
        let left = ((total as f64 - done) / rate).max(0.0).round();
        if let Ok(left) = Duration::try_from_secs_f64(left) {
            parts.push(format!("{} left", humantime::format_duration(left)));
        }
    }
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
            text((done, total), "image", Duration::from_secs(seconds), now)
        };
        assert_eq!(text(0.0, 3, 5, "a.png"), "0/3 images: a.png");
        assert_eq!(text(0.0, 3, 0, ""), "0/3 images");
        assert_eq!(
            text(3.5, 16, 7, "b.png: 50 %"),
            "3/16 images, 2.0 s/image, 25s left: b.png: 50 %"
        );
        assert_eq!(
            text(40.0, 100, 8, ""),
            "40/100 images, 5.0 images/s, 12s left"
        );
        // Of one large image.
        assert_eq!(
            text(0.25, 1, 30, ""),
            "0/1 images, 120.0 s/image, 1m 30s left"
        );
        assert_eq!(text(1.0, 1, 4, ""), "1/1 images, 4.0 s/image, 0s left");
    }
}
