//! The pages from the reader, as the network reads them.

use std::collections::VecDeque;
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
                    (self.row, self.scale) = (page.row_len(), scale);
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
            if now > 0 {
                self.rows.take(now, rows);
            }
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

/// Samples in the order received, in the pieces in which they arrived: a piece may be a large part of a page, so it is
/// freed with the last of its samples, and never copied to be joined with another.
#[derive(Default)]
pub(super) struct Queue {
    pieces: VecDeque<Vec<f32>>,
    /// Samples of the first piece that have been taken; not all of them.
    taken: usize,
    len: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends samples.
    pub(super) fn push(&mut self, samples: Vec<f32>) {
        if !samples.is_empty() {
            self.len += samples.len();
            self.pieces.push_back(samples);
        }
    }

    /// Moves the first `count` samples to the end of `to`; without a copy if they are a whole piece and `to` has no
    /// memory yet.
    ///
    /// # Panics
    /// If there are fewer.
    pub(super) fn take(&mut self, mut count: usize, to: &mut Vec<f32>) {
        self.len -= count;
        let is_piece = |piece: &Vec<f32>| piece.len() == count;
        if self.taken == 0 && to.capacity() == 0 && self.pieces.front().is_some_and(is_piece) {
            *to = self.pieces.pop_front().unwrap_or_default();
            return;
        }
        to.reserve_exact(count);
        while count > 0 {
            let first = &self.pieces[0][self.taken..];
            let now = count.min(first.len());
            to.extend_from_slice(&first[..now]);
            count -= now;
            if now == first.len() {
                self.pieces.pop_front();
                self.taken = 0;
            } else {
                self.taken += now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_leave_in_the_order_in_which_they_came() {
        let mut queue = Queue::default();
        let mut came = 0..;
        let mut next = 0;
        for (count, takes) in [
            (0, vec![0]),
            (7, vec![3, 4]),
            (5, vec![5]),
            (4, vec![1]),
            (6, vec![8, 1]),
        ] {
            queue.push(came.by_ref().take(count).map(|i| i as f32).collect());
            for count in takes {
                let mut to = vec![];
                queue.take(count, &mut to);
                let want: Vec<f32> = (next..next + count).map(|i| i as f32).collect();
                assert_eq!(to, want);
                next += count;
            }
        }
        assert_eq!((queue.len(), queue.pieces.len()), (0, 0));
    }
}
