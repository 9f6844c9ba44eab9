//! The ranges of pages, measured once for all files of one type in a folder.

use std::collections::BTreeMap;
use std::path::Path;

use super::job::{Config, Input, Job};
use crate::denoise::{ModelRange, Range, Scale, Survey};
use crate::error::Result;
use crate::image::Depth;

/// The ranges of pages, measured once for all files of one type in a folder.
pub(super) struct Ranges<'a> {
    pub(super) jobs: &'a [Job],
    pub(super) config: &'a Config,
    found: BTreeMap<(Series<'a>, Depth), Scale>,
}

impl<'a> Ranges<'a> {
    pub(super) fn new(jobs: &'a [Job], config: &'a Config) -> Self {
        Self {
            jobs,
            config,
            found: BTreeMap::new(),
        }
    }

    /// The model's range, if it is to be used.
    pub(super) fn model(&self) -> Option<ModelRange> {
        self.config
            .model
            .filter(|_| self.config.range == Range::Auto)
    }

    fn series(&self, at: usize) -> Series<'a> {
        match &self.jobs[at].input {
            Input::File(path) => Series::Folder(path.parent().unwrap_or(path)),
            Input::Bytes(..) => Series::Stream(at),
        }
    }

    /// The range of a page of the job.
    pub(super) fn of(&mut self, at: usize, depth: Depth) -> Result<Scale> {
        if let Some(model) = self.model() {
            return Ok(model.scale(depth));
        }
        let range = self.config.range;
        if matches!(range, Range::Between(..)) {
            return Ok(range.scale(depth, None));
        }
        let series = self.series(at);
        if let Some(&scale) = self.found.get(&(series, depth)) {
            return Ok(scale);
        }
        let mut survey = Survey::new(Survey::OF_ALL);
        // It is not known what is denoised in other images; the selection for this one is assumed.
        let selection = &self.jobs[at].selection;
        let mut look = |input: &Input| {
            let reader = input.open(self.config.limits)?;
            survey.add_pages(&mut selection.of(reader), Some(depth))
        };
        // Errors in other files are reported when it is their turn.
        match (series, &self.jobs[at].input) {
            (Series::Folder(folder), Input::File(this)) if !self.config.images.is_empty() => {
                let images = self.config.images.iter();
                for image in images.filter(|image| image.parent() == Some(folder)) {
                    let looked = look(&Input::File(image.clone()));
                    if image == this {
                        looked?;
                    }
                }
            }
            _ => {
                for job in (0..self.jobs.len()).filter(|&job| self.series(job) == series) {
                    let looked = look(&self.jobs[job].input);
                    if job == at {
                        looked?;
                    }
                }
            }
        }
        let scale = range.scale(depth, Some(&survey));
        self.found.insert((series, depth), scale);
        Ok(scale)
    }
}

/// A group of files whose pages share a range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Series<'a> {
    /// The files in a folder.
    Folder(&'a Path),
    /// A stream, by the index of its job.
    Stream(usize),
}
