//! Calls into the library: on a thread pool, detached from the interpreter, and interrupted by Ctrl-C.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// How often a call checks for signals and reports progress.
const WAKE: Duration = Duration::from_millis(50);

/// Runs work on a pool of `threads`, all cores by default, and waits for it detached from the interpreter.
/// `tick` is called while it runs, attached.
///
/// A signal whose handler raises, such as Ctrl-C, or an exception in `tick` ends the call at once. The work owns
/// everything that it uses; stopping it is up to the caller.
pub fn waited<T: Send + 'static>(
    py: Python<'_>,
    threads: Option<usize>,
    work: impl FnOnce() -> T + Send + 'static,
    mut tick: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    pool(threads)?.spawn(move || {
        // A panic on a thread of the pool would end the process.
        let done = catch_unwind(AssertUnwindSafe(work));
        // Nobody waits any more if the call has been ended.
        let _ = sender.send(done);
    });
    let receiver = Mutex::new(receiver);
    loop {
        match py.detach(|| wait(&receiver)) {
            Ok(done) => {
                return done.map_err(|_| {
                    PyRuntimeError::new_err("a panic within n2n, which is a bug: please report it")
                });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the work ended without a result"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        py.check_signals().and_then(|()| tick(py))?;
    }
}

/// Runs work that reports events while it runs, and waits for it as [`waited`] does. `tell` passes an event to Python;
/// the answer `False` requests that the work stop, as does the end of the call.
pub fn reported<T: Send + 'static, E: Send + 'static>(
    py: Python<'_>,
    threads: Option<usize>,
    work: impl FnOnce(&mut dyn FnMut(Option<E>) -> ControlFlow<()>) -> T + Send + 'static,
    tell: impl Fn(E) -> PyResult<Py<PyAny>>,
) -> PyResult<T> {
    let stop = Stop::default();
    let asked = stop.asked();
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        work(&mut |event| {
            // Nobody listens any more if the call has been ended.
            let _ = event.map(|event| sender.send(event));
            asked()
        })
    };
    let receiver = Mutex::new(receiver);
    let tell_all = |py: Python<'_>| {
        let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
        for event in receiver.try_iter() {
            if matches!(tell(event)?.extract(py), Ok(false)) {
                stop.ask();
            }
        }
        Ok(())
    };
    let done = waited(py, threads, work, tell_all)?;
    tell_all(py)?;
    Ok(done)
}

/// A request to stop work, made at the latest when the call that waits for it ends.
#[derive(Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A function for the work to call: it breaks once a stop has been requested.
    pub fn asked(&self) -> impl Fn() -> ControlFlow<()> + Send + Sync + 'static {
        let stop = Arc::clone(&self.0);
        move || {
            if stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }

    /// Requests the stop.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.ask();
    }
}

fn wait<T>(receiver: &Mutex<Receiver<T>>) -> Result<T, RecvTimeoutError> {
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    receiver.recv_timeout(WAKE)
}

/// The pools of a process, by their number of threads.
struct Pools {
    process: u32,
    by_threads: HashMap<usize, Arc<ThreadPool>>,
}

/// Never rayon's global pool: its threads do not exist in a forked process, and calls would wait forever.
///
/// Locked only while attached to the interpreter. With the GIL or without, a fork begins once no other thread is
/// attached, and so never finds it locked.
static POOLS: Mutex<Option<Pools>> = Mutex::new(None);

fn pool(threads: Option<usize>) -> PyResult<Arc<ThreadPool>> {
    const MOST: usize = 1024;
    let threads = match threads {
        None => available_parallelism().map_or(1, usize::from).min(MOST),
        Some(threads @ 1..=MOST) => threads,
        Some(threads) => {
            let words = format!("threads: expected 1 to {MOST}, found {threads}");
            return Err(PyValueError::new_err(words));
        }
    };
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    if pools.as_ref().is_none_or(|pools| pools.process != process) {
        let of_parent = pools.replace(Pools {
            process,
            by_threads: HashMap::new(),
        });
        // Its threads are not in this process, and dropping it would wait for them.
        std::mem::forget(of_parent);
    }
    let by_threads = &mut pools.as_mut().expect("it was just made").by_threads;
    if let Some(pool) = by_threads.get(&threads) {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("n2n {i}"))
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("threads: {error}")))?;
    let pool = Arc::new(pool);
    by_threads.insert(threads, Arc::clone(&pool));
    Ok(pool)
}
