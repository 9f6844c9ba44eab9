//! Items produced ahead of time by a few threads, and consumed in order.
//!
//! Thread `k` of `t` makes items `k`, `k + t`, `k + 2t`, …, each thread with its own bounded queue, and the consumer
//! takes from the queues in turn. The order is therefore that of the indices, whatever the timing of the threads,
//! without shared state.
//!
//! On a platform without threads (WebAssembly), the consumer makes each item itself.

use std::any::Any;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, Result};

/// Items in the queue of each thread, which makes one more and then waits for the consumer.
const DEPTH: usize = 2;

/// An iterator over the results of a function for `0..length`; it ends after an error.
///
/// Dropping it early stops the threads and waits for each to finish its current item.
pub struct Prefetch<T> {
    make: Arc<Make<T>>,
    /// One per thread; empty if items are made on demand.
    queues: Vec<Receiver<Result<T>>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    length: usize,
}

type Make<T> = dyn Fn(usize) -> Result<T> + Send + Sync;

impl<T: Send + 'static> Prefetch<T> {
    /// Starts `threads` threads that call `make`. With 0, or where threads are not supported, items are made on demand.
    pub fn start(
        threads: usize,
        length: usize,
        make: impl Fn(usize) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let make: Arc<Make<T>> = Arc::new(make);
        let mut prefetch = Self {
            make: Arc::clone(&make),
            queues: vec![],
            threads: vec![],
            next: 0,
            length,
        };
        let threads = threads.min(length);
        for first in 0..threads {
            let (sender, queue) = sync_channel(DEPTH);
            let make = Arc::clone(&make);
            let work = move || {
                for index in (first..length).step_by(threads) {
                    let item = make(index);
                    let last = item.is_err();
                    // A failed send: the consumer is gone.
                    if sender.send(item).is_err() || last {
                        return;
                    }
                }
            };
            let started = Builder::new().name(format!("loader {first}")).spawn(work);
            let thread = match started {
                Ok(thread) => thread,
                Err(error) if error.kind() == ErrorKind::Unsupported => break,
                Err(error) => {
                    return Err(Error::Loader {
                        reason: error.to_string(),
                    });
                }
            };
            prefetch.queues.push(queue);
            prefetch.threads.push(thread);
        }
        Ok(prefetch)
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.length {
            return None;
        }
        let index = self.next;
        self.next += 1;
        if self.queues.is_empty() {
            let item = (self.make)(index);
            if item.is_err() {
                self.next = self.length;
            }
            return Some(item);
        }
        let turn = index % self.queues.len();
        // An empty queue without a sender: the thread ended before it had made all its items.
        let item = self.queues[turn].recv().unwrap_or_else(|_| {
            let reason = match self.threads.swap_remove(turn).join() {
                Ok(()) => "a thread ended early".into(),
                Err(panic) => format!("a thread panicked: {}", message(panic.as_ref())),
            };
            Err(Error::Loader { reason })
        });
        if item.is_err() {
            self.next = self.length;
        }
        Some(item)
    }
}

impl<T> fmt::Debug for Prefetch<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Prefetch")
            .field("next", &self.next)
            .field("length", &self.length)
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // Without their queues the threads' sends fail, and they end.
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A panic that the consumer never saw has no effect.
            let _ = thread.join();
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn items_come_in_order_for_any_number_of_threads() {
        for threads in [0, 1, 2, 3, 7, 40] {
            for length in [0, 1, 2, 20] {
                let items = Prefetch::start(threads, length, |index| {
                    // The later, the faster: threads overtake each other.
                    std::thread::sleep(Duration::from_micros(200 - 10 * index as u64));
                    Ok(index)
                });
                let items: Vec<_> = items.unwrap().map(Result::unwrap).collect();
                assert_eq!(items, (0..length).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_consumer_that_stops_early_leaves_no_thread_behind() {
        let alive = Arc::new(());
        let made = Arc::new(AtomicUsize::new(0));
        let (kept, counter) = (Arc::clone(&alive), Arc::clone(&made));
        let mut items = Prefetch::start(3, 1_000_000, move |index| {
            let _ = &kept;
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(index)
        })
        .unwrap();
        assert_eq!(items.next().unwrap().unwrap(), 0);
        drop(items);
        // Every thread held the function, and the function `kept`.
        assert_eq!(Arc::strong_count(&alive), 1);
        // One taken; for each thread its full queue and the item in hand.
        assert!(made.load(Ordering::Relaxed) <= 1 + 3 * (DEPTH + 1));
    }

    #[test]
    fn an_error_comes_in_its_place_and_ends_the_items() {
        let mut items = Prefetch::start(2, 10, |index| {
            if index == 3 {
                Err(Error::value("index", "not 3", index))
            } else {
                Ok(index)
            }
        })
        .unwrap();
        for index in 0..3 {
            assert_eq!(items.next().unwrap().unwrap(), index);
        }
        assert!(matches!(items.next(), Some(Err(Error::Value { .. }))));
        assert!(items.next().is_none());
    }

    #[test]
    fn a_panic_in_a_thread_is_an_error_of_the_consumer() {
        let mut items = Prefetch::start(2, 10, |index| {
            assert_ne!(index, 4, "no four");
            Ok(index)
        })
        .unwrap();
        let error = items.find_map(Result::err).unwrap();
        assert!(matches!(error, Error::Loader { .. }));
        assert!(error.to_string().contains("no four"), "{error}");
        assert!(items.next().is_none());
    }
}
