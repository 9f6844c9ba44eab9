//! Files through a network, as a pipeline: one file is decoded and another encoded while the network processes a
//! third, so that its threads never wait for either.
//!
//! Three stages are connected by bounded channels. The reader thread decodes job after job into pieces of rows. The
//! caller's thread runs them through the network. Each output of a job has a thread that encodes the result. A file
//! that fails ends only its own job, and leaves no outputs except those that were complete before it failed.

mod encode;
mod job;
mod queue;
mod ranges;
mod read;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle, scope};
use std::time::Instant;

pub use self::job::{Config, Done, Event, Input, Job, Output};

use self::encode::{Made, Outputs, Written};
use self::queue::{Incoming, Queue};
use self::ranges::Ranges;
use self::read::{Piece, Seen, read};
use crate::denoise::{Denoiser, Options, Progress, Scale};
use crate::error::{Error, Result};
use crate::image::{Color, Pages};
use crate::network::Denoise;
use crate::repair::Repaired;

/// Runs the jobs in order, and reports to `on_event`, including errors in a job.
pub fn predict(
    network: &mut dyn Denoise,
    jobs: &[Job],
    config: &Config,
    on_event: impl FnMut(Event) + Send,
) {
    // Both are used by this thread alone, between and during passes of the network.
    let on_event = Mutex::new(on_event);
    let place = Mutex::new((0, 0));
    let tell = |event| locked(&on_event)(event);
    let on_progress = |progress: Progress| {
        let (job, pages) = *locked(&place);
        let part = progress.fraction();
        tell(Event::Progress { job, pages, part });
        ControlFlow::Continue(())
    };
    let options = Options {
        with_noisy: jobs.iter().any(|job| {
            let compares = job.residual.is_some() || job.compare.is_some();
            compares || job.selection.channels.is_some()
        }),
        ..config.options
    };
    let mut denoiser = Denoiser::new(network, options).with_progress(Some(&on_progress));
    let abandoned = AtomicUsize::new(usize::MAX);
    scope(|scope| {
        let (sender, receiver) = sync_channel(PIECES);
        let abandoned = &abandoned;
        scope.spawn(move || {
            let mut ranges = Ranges::new(jobs, config);
            for at in 0..jobs.len() {
                let end = read(at, &mut ranges, abandoned, &sender);
                if sender.send(Piece::End(end)).is_err() {
                    return;
                }
            }
        });
        let mut incoming = Incoming {
            receiver,
            rows: Queue::default(),
            row: 0,
            scale: Scale::UNIT,
            seen: Seen::default(),
            ended: false,
        };
        let mut ending = VecDeque::new();
        for (at, job) in jobs.iter().enumerate() {
            let run = run(
                &mut denoiser,
                (at, job),
                config,
                scope,
                &mut incoming,
                &mut ending,
                (&place, &tell),
            );
            if !incoming.ended {
                abandoned.store(at, Ordering::Relaxed);
                incoming.skip_job();
            }
            incoming.ended = false;
            ending.push_back((at, run));
            // The last outputs may still be in progress.
            while ending.len() > 1 {
                end(ending.pop_front(), &tell);
            }
        }
        end(ending.pop_front(), &tell);
    });
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pieces that may wait between two stages.
const PIECES: usize = 4;

/// The state of a job: what is known when the network is done, and the outputs in progress.
struct Run<'scope> {
    result: Result<Done>,
    outputs: Vec<ScopedJoinHandle<'scope, Result<Written>>>,
}

/// Runs one job through the network, while the outputs of those in `ending` may still be in progress. `place` is
/// kept at the job and page in progress.
fn run<'scope>(
    denoiser: &mut Denoiser<'_>,
    (at, job): (usize, &'scope Job),
    config: &Config,
    scope: &'scope Scope<'scope, '_>,
    incoming: &mut Incoming,
    ending: &mut VecDeque<(usize, Run<'scope>)>,
    (place, tell): (&Mutex<(usize, usize)>, &impl Fn(Event)),
) -> Run<'scope> {
    let mut outputs = Outputs::default();
    let network_pixels = denoiser.network_pixels;
    let mut denoise = || {
        let mut done: Option<Done> = None;
        while let Some(page) = incoming.next_page()? {
            let scale = incoming.scale;
            if done.is_none() {
                outputs.start(job, config.limits, scope);
            }
            let done = done.get_or_insert_with(|| Done {
                pages: 0,
                size: (page.height, page.width),
                channels: page.color.channels(),
                depth: (page.depth, job.encoding.depth_of(page.depth)),
                range: scale,
                misfit: None,
                repaired: Repaired::default(),
                is_gray_as_rgb: false,
                started: Instant::now(),
                elapsed_s: 0.0,
                network_pixels: 0,
                bytes: None,
                notes: vec![],
                scores: None,
            });
            for note in page.metadata.notes_for(job.encoding.format) {
                if !done.notes.contains(&note) {
                    done.notes.push(note);
                }
            }
            done.is_gray_as_rgb |= !page.metadata.pass_through
                && denoiser.is_rgb_alone()
                && (page.color != Color::Rgb || page.metadata.is_achromatic);
            outputs.send(Made::Page(Arc::new(page.clone()), scale))?;
            *locked(place) = (at, done.pages);
            denoiser.denoise(&page, incoming, scale, |mut band| {
                // The end of a job is reported at once, however long the next one takes.
                let written =
                    |(_, run): &(usize, Run)| run.outputs.iter().all(ScopedJoinHandle::is_finished);
                if ending.front().is_some_and(written) {
                    end(ending.pop_front(), tell);
                }
                if let Some(shrunk) = band.shrunk.take() {
                    tell(Event::Shrunk { job: at, shrunk });
                }
                job.selection
                    .restore(&page, &band.noisy, &mut band.denoised);
                outputs.send(Made::Band(Arc::new(band)))
            })?;
            done.pages += 1;
        }
        let mut done = done.ok_or_else(|| Error::Engine {
            reason: "it has no pages".into(),
        })?;
        Seen {
            misfit: done.misfit,
            repaired: done.repaired,
        } = std::mem::take(&mut incoming.seen);
        done.elapsed_s = done.started.elapsed().as_secs_f64();
        done.network_pixels = denoiser.network_pixels - network_pixels;
        Ok(done)
    };
    let result = denoise();
    Run {
        outputs: outputs.end(result.is_ok()),
        result,
    }
}

/// Waits for the outputs of a job and reports its result.
fn end(ended: Option<(usize, Run<'_>)>, tell: &impl Fn(Event)) {
    let Some((
        job,
        Run {
            mut result,
            outputs,
        },
    )) = ended
    else {
        return;
    };
    for output in outputs {
        match (output.join(), &mut result) {
            (Ok(Ok(written)), Ok(done)) => {
                done.bytes = done.bytes.take().or(written.bytes);
                done.scores = done.scores.or(written.scores);
            }
            // Stopped because the job had failed.
            (Ok(_), Err(error)) if !matches!(error, Error::Stopped) => {}
            (Ok(Ok(_)), Err(_)) => {}
            // The error of an output is the error of its job.
            (Ok(Err(error)), result) => {
                if !matches!(error, Error::Stopped) || result.is_ok() {
                    *result = Err(error);
                }
            }
            (Err(_), result) => {
                *result = Err(Error::Engine {
                    reason: "encoding panicked".into(),
                });
            }
        }
    }
    tell(Event::Ended { job, result });
}
