//! Which pages and channels of a file to denoise; all others are copied unchanged.

use std::fmt::{self, Display};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::str::FromStr;

use super::page::{Page, Pages};
use crate::error::{Error, Result};
use crate::words::counted;

/// Numbers counted from 1, such as `2`, `1,3` or `5-8,12-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers(Vec<RangeInclusive<usize>>);

impl Numbers {
    /// Whether the item at `index`, counted from 0, is among them.
    pub fn contains(&self, index: usize) -> bool {
        self.0.iter().any(|range| range.contains(&(index + 1)))
    }
}

impl FromStr for Numbers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse().ok().filter(|&number| number > 0);
        let range = |part: &str| match part.split_once('-') {
            None => number(part).map(|one| one..=one),
            Some((first, last)) if last.trim().is_empty() => Some(number(first)?..=usize::MAX),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(first..=last)
            }
        };
        let ranges = text.split(',').map(range).collect::<Option<Vec<_>>>();
        ranges.map(Self).ok_or_else(|| {
            Error::value(
                "numbers",
                "numbers and ranges, counted from 1, such as 2 or 1,3 or 5-8,12-",
                text,
            )
        })
    }
}

impl Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match (*range.start(), *range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, usize::MAX) => write!(f, "{comma}{first}-")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Which parts of a file to denoise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The pages; `None` for all.
    pub pages: Option<Numbers>,
    /// The channels; `None` for all. In a stack whose pages belong to channels, these are pages; otherwise, samples of
    /// each pixel.
    pub channels: Option<Numbers>,
}

impl Selection {
    /// Whether to denoise page `index` of a file, counted from 0, or any channel of it.
    pub fn has_page(&self, index: usize, page: &Page) -> bool {
        let of_pages = self
            .pages
            .as_ref()
            .is_none_or(|pages| pages.contains(index));
        let of_channels = self
            .channels
            .as_ref()
            .is_none_or(|channels| channels_of(page).any(|channel| channels.contains(channel)));
        of_pages && of_channels
    }

    /// The samples of a pixel to denoise, counted from 0; `None` for all.
    pub(crate) fn samples_of(&self, page: &Page) -> Option<Vec<usize>> {
        let channels = self.channels.as_ref().filter(|_| self.is_by_sample(page))?;
        let wanted = channels_of(page).filter(|&channel| channels.contains(channel));
        Some(wanted.collect())
    }

    /// Restores the samples of channels that are not selected.
    pub fn restore(&self, page: &Page, noisy: &[f32], denoised: &mut [f32]) {
        let Some(channels) = self.channels.as_ref().filter(|_| self.is_by_sample(page)) else {
            return;
        };
        let samples = page.samples();
        let pixels = denoised.chunks_exact_mut(samples);
        for (to, from) in pixels.zip(noisy.chunks_exact(samples)) {
            for (channel, (to, &from)) in to.iter_mut().zip(from).enumerate() {
                if !channels.contains(channel) {
                    *to = from;
                }
            }
        }
    }

    /// The pages of a file, for measuring the selected parts: other pages are marked as copied, and samples of other
    /// channels are NaN.
    pub fn of<P: Pages>(&self, pages: P) -> impl Pages {
        Selected {
            pages,
            selection: self,
            index: 0,
            page: None,
        }
    }

    /// Whether channels are selected that are samples of this page's pixels.
    pub fn is_by_sample(&self, page: &Page) -> bool {
        self.channels.is_some() && channel_of_stack(page).is_none()
    }
}

/// The channel of a stack that a page belongs to, counted from 0, if there are such channels.
fn channel_of_stack(page: &Page) -> Option<usize> {
    let position = page
        .metadata
        .position
        .filter(|_| page.color.channels() == 1);
    position.map(|position| position.channel)
}

/// The channels that a page belongs to or consists of, counted from 0.
fn channels_of(page: &Page) -> Range<usize> {
    match channel_of_stack(page) {
        Some(channel) => channel..channel + 1,
        None => 0..page.color.channels(),
    }
}

/// The pages and channels of a file, counted as a selection counts them, to tell when it selects none of them.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pages: usize,
    channels: usize,
    selected: usize,
}

impl Census {
    /// Counts the next page that is an image, and returns whether it is selected.
    pub(crate) fn count(&mut self, selection: &Selection, page: &Page) -> bool {
        let is_selected = selection.has_page(self.pages, page);
        self.pages += 1;
        self.channels = self.channels.max(channels_of(page).end);
        self.selected += usize::from(is_selected);
        is_selected
    }

    /// An error if the file at `path` has pages and none of them was selected.
    pub(crate) fn check(&self, selection: &Selection, path: &Path) -> Result<()> {
        if self.pages == 0 || self.selected > 0 {
            return Ok(());
        }
        let pages = selection.pages.as_ref().map(|n| format!("page {n}"));
        let channels = selection.channels.as_ref().map(|n| format!("channel {n}"));
        let asked: Vec<_> = pages.into_iter().chain(channels).collect();
        Err(Error::Image {
            path: path.to_path_buf(),
            reason: format!(
                "nothing in it is selected: it has {} and {}; asked for: {}",
                counted(self.pages, "page"),
                counted(self.channels, "channel"),
                asked.join(", ")
            ),
        })
    }
}

struct Selected<'a, P> {
    pages: P,
    selection: &'a Selection,
    /// Number of pages returned so far, excluding masks and thumbnails.
    index: usize,
    page: Option<Page>,
}

impl<P: Pages> Pages for Selected<'_, P> {
    fn next_page(&mut self) -> Result<Option<Page>> {
        let mut page = self.pages.next_page()?;
        if let Some(page) = page.as_mut().filter(|page| !page.metadata.pass_through) {
            page.metadata.pass_through = !self.selection.has_page(self.index, page);
            self.index += 1;
        }
        self.page.clone_from(&page);
        Ok(page)
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        let start = rows.len();
        self.pages.read_rows(count, rows)?;
        if let Some(page) = &self.page {
            let none = vec![f32::NAN; rows.len() - start];
            self.selection.restore(page, &none, &mut rows[start..]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_from_1_and_come_in_ranges() {
        for text in ["2", "1,3", "5-8,12-", "1-"] {
            assert_eq!(text.parse::<Numbers>().unwrap().to_string(), text);
        }
        let numbers: Numbers = "2, 5-6,9-".parse().unwrap();
        let found: Vec<_> = (0..12).filter(|&i| numbers.contains(i)).collect();
        assert_eq!(found, [1, 4, 5, 8, 9, 10, 11]);
        for text in ["", "0", "3-2", "a", "1,,2", "-3"] {
            assert!(text.parse::<Numbers>().is_err(), "{text}");
        }
    }
}
