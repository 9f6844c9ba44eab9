//! The first stage: decodes job after job into pieces of rows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use super::ranges::Ranges;
use crate::denoise::{Misfit, Range, Scale, Survey, sensor};
use crate::diagnose::Frame;
use crate::error::{Error, Result};
use crate::image::{Census, Depth, Image, Limits, Page, Pages, Reader};
use crate::repair::{Repair, Repaired, Repairer};

/// Approximate number of samples in a piece.
const PIECE: usize = 1 << 20;

/// What the reader sends.
pub(super) enum Piece {
    Page(Box<Page>, Scale),
    Rows(Vec<f32>),
    End(Result<Seen>),
}

/// What was seen of the pages of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// How they fail to fit the range of the model.
    pub(super) misfit: Option<Misfit>,
    pub(super) repaired: Repaired,
}

/// Reads the pages of a job and sends them; returns what was seen of them.
pub(super) fn read(
    at: usize,
    ranges: &mut Ranges,
    abandoned: &AtomicUsize,
    sender: &SyncSender<Piece>,
) -> Result<Seen> {
    let send = |piece| sender.send(piece).map_err(|_| Error::Stopped);
    let job = &ranges.jobs[at];
    let mut reader = job.input.open(ranges.config.limits)?;
    let model = ranges.model();
    let mut seen: Option<(Depth, Survey)> = None;
    let mut census = Census::default();
    let mut repairs = Repairs {
        what: ranges.config.repair,
        limits: ranges.config.limits,
        repairers: BTreeMap::new(),
        repaired: Repaired::default(),
    };
    let mut pages = 0;
    while let Some(mut page) = reader.next_page()? {
        pages += 1;
        if !page.metadata.pass_through {
            page.metadata.pass_through = !census.count(&job.selection, &page);
        }
        let is_copied = page.metadata.pass_through;
        if model.is_some() || ranges.config.range != Range::Auto {
            page.metadata.sensor = None;
        }
        let scale = match &page.metadata.sensor {
            // A copied page keeps its values. If the encoding cannot hold these, they are mapped by the range of the
            // pages that are denoised.
            _ if is_copied && !job.encoding.narrows(page.depth) => Scale::UNIT,
            Some(of_page) => sensor::scale(of_page),
            None => ranges.of(at, page.depth)?,
        };
        let (height, row) = (page.height, page.row_len());
        let mut whole = if is_copied || repairs.what.is_none() {
            None
        } else {
            Some(repairs.read(&page, &mut reader)?.into_iter())
        };
        let mut at_once = (PIECE / row).clamp(1, height);
        if model.is_some() {
            // At least two rows, for the survey.
            at_once = (at_once / 2 * 2).max(2);
        }
        let mut left = height;
        while left > 0 {
            if abandoned.load(Ordering::Relaxed) == at {
                return Err(Error::Stopped);
            }
            let count = left.min(at_once);
            let mut rows = Vec::with_capacity(count * row);
            match &mut whole {
                Some(whole) => rows.extend(whole.take(count * row)),
                None => reader.read_rows(count, &mut rows)?,
            }
            if left == height {
                page.metadata.is_achromatic = !is_copied
                    && page.is_achromatic(&rows)
                    && match &whole {
                        Some(rest) => page.is_achromatic(rest.as_slice()),
                        None if count == height => true,
                        None => {
                            let again = job.input.open(ranges.config.limits)?;
                            is_achromatic_below(count, again, pages)?
                        }
                    };
                send(Piece::Page(Box::new(page.clone()), scale))?;
            }
            left -= count;
            if model.is_some() && !is_copied {
                let (depth, survey) =
                    seen.get_or_insert_with(|| (page.depth, Survey::new(Survey::OF_ONE)));
                if *depth == page.depth {
                    survey.add_rows(&page, &rows);
                }
            }
            send(Piece::Rows(rows))?;
        }
    }
    census.check(&job.selection, job.input.name())?;
    Ok(Seen {
        misfit: model
            .zip(seen)
            .and_then(|(model, (depth, survey))| model.misfit(depth, &survey)),
        repaired: repairs.repaired,
    })
}

/// Whether the channels of page number `pages`, counted from 1, are equal below its first `rows` rows, too. The file is
/// read once more: the page may be larger than memory, and how to denoise it has to be known before its first row.
fn is_achromatic_below(rows: usize, mut again: Reader, pages: usize) -> Result<bool> {
    let mut page = None;
    for _ in 0..pages {
        page = again.next_page()?;
    }
    let Some(page) = page else { return Ok(false) };
    let at_once = (PIECE / page.row_len()).clamp(1, page.height);
    let mut read = 0;
    while read < page.height {
        let count = at_once.min(page.height - read);
        let mut samples = Vec::with_capacity(count * page.row_len());
        again.read_rows(count, &mut samples)?;
        if read + count > rows && !page.is_achromatic(&samples) {
            return Ok(false);
        }
        read += count;
    }
    Ok(true)
}

/// How the pages of a job are repaired: by the noise of the first of each type.
struct Repairs {
    what: Repair,
    limits: Limits,
    repairers: BTreeMap<(Depth, usize), Repairer>,
    repaired: Repaired,
}

impl Repairs {
    /// The samples of a page, its color repaired.
    fn read(&mut self, page: &Page, reader: &mut Reader) -> Result<Vec<f32>> {
        /// The middle of a page, this wide and high, says enough about its noise.
        const MIDDLE: usize = 512;
        reader.check_fits(page, self.limits)?;
        let mut samples = Vec::with_capacity(page.height * page.row_len());
        reader.read_rows(page.height, &mut samples)?;
        let (all, channels) = (page.samples(), page.color.channels());
        let colors = samples
            .chunks_exact(all)
            .flat_map(|pixel| &pixel[..channels]);
        let mut image = Image {
            height: page.height,
            width: page.width,
            channels,
            data: colors.copied().collect(),
            depth: page.depth,
        };
        let key = (page.depth, channels);
        if !self.repairers.contains_key(&key) {
            let middle = Frame::from(&image).middle(MIDDLE, MIDDLE);
            let repairer = Repairer::measure(&[middle], self.what)?;
            self.repairers.insert(key, repairer);
        }
        self.repaired += self.repairers[&key].repair(&mut image);
        let pixels = samples.chunks_exact_mut(all);
        for (to, from) in pixels.zip(image.data.chunks_exact(channels)) {
            to[..channels].copy_from_slice(from);
        }
        Ok(samples)
    }
}
