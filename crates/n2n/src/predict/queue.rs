//! The pages from the reader, as the network reads them.

use std::sync::mpsc::Receiver;

use super::read::{Piece, Seen};
use crate::denoise::Scale;
use crate::error::{Error, Result};
use crate::image::{Page, Pages};

/// The pages from the reader, as the network reads them.
pub(super) struct Incoming {
    pub(super) receiver: Receiver<Piece>,
    /// Rows that have been received and not yet read.
    pub(super) rows: Queue,
    /// The number of samples in a row, and the range, of the current page.
    pub(super) row: usize,
    pub(super) scale: Scale,
    /// Reported at the end of the job.
    pub(super) seen: Seen,
    /// Whether the end of the current job has been received.
    pub(super) ended: bool,
}

impl Incoming {
    pub(super) fn skip_job(&mut self) {
        while !matches!(self.receiver.recv(), Ok(Piece::End(_)) | Err(_)) {}
        self.rows = Queue::default();
    }

    fn end<T>(&mut self, result: Result<T>) -> Error {
        self.ended = true;
        result.err().unwrap_or(Error::Stopped)
    }
}

impl Pages for Incoming {
    fn next_page(&mut self) -> Result<Option<Page>> {
        self.rows = Queue::default();
        loop {
            match self.receiver.recv() {
                Ok(Piece::Page(page, scale)) => {
                    (self.row, self.scale) = (page.row(), scale);
                    return Ok(Some(*page));
                }
                Ok(Piece::Rows(_)) => {}
                Ok(Piece::End(Ok(seen))) => {
                    self.ended = true;
                    self.seen = seen;
                    return Ok(None);
                }
                Ok(Piece::End(failed)) => return Err(self.end(failed)),
                Err(_) => return Err(self.end(Ok(()))),
            }
        }
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        let mut wanted = count * self.row;
        loop {
            let now = wanted.min(self.rows.len());
            if (1..wanted).contains(&now) {
                rows.reserve_exact(wanted);
            }
            self.rows.take(now, rows);
            wanted -= now;
            if wanted == 0 {
                return Ok(());
            }
            match self.receiver.recv() {
                Ok(Piece::Rows(more)) => self.rows.push(more),
                Ok(Piece::End(failed)) => return Err(self.end(failed)),
                Ok(Piece::Page(..)) | Err(_) => return Err(self.end(Ok(()))),
            }
        }
    }
}

/// Samples in the order received; the first of them have been taken.
#[derive(Default)]
pub(super) struct Queue {
    samples: Vec<f32>,
    taken: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.samples.len() - self.taken
    }

    /// Appends samples, without a copy if the queue is empty.
    pub(super) fn push(&mut self, samples: Vec<f32>) {
        if self.len() == 0 {
            *self = Self { samples, taken: 0 };
        } else {
            self.behind().extend(samples);
        }
    }

    /// The vector to append to.
    pub(super) fn behind(&mut self) -> &mut Vec<f32> {
        self.samples.drain(..self.taken);
        self.taken = 0;
        &mut self.samples
    }

    /// Moves the first `count` samples to the end of `to`; without a copy if they are the whole contents and `to` has
    /// no memory yet.
    pub(super) fn take(&mut self, count: usize, to: &mut Vec<f32>) {
        if self.taken == 0 && self.samples.len() == count && to.capacity() == 0 {
            *to = std::mem::take(&mut self.samples);
        } else {
            to.extend_from_slice(&self.samples[self.taken..][..count]);
            self.taken += count;
        }
    }
}
