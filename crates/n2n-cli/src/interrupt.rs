//! What happens on a signal that asks the program to end: unfinished files are removed, and the program ends at once.
//! The running command may instead stop by itself, or have something done first.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use n2n::files;

use crate::ui::Ui;

/// The exit code of a program that a signal ended, as shells give it for an interrupt.
pub const STATUS: u8 = 130;

/// What a command has to do before the end.
static BEFORE_END: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// How long it may take: a pipe that nobody reads, or a disk that is gone, must not keep the program from ending.
const PATIENCE: Duration = Duration::from_secs(2);

/// Set by the first signal, for a command that then stops by itself.
static STOP: OnceLock<(Arc<AtomicBool>, Ui)> = OnceLock::new();

/// Watches for the signals, from now on.
pub fn watch() {
    // If no handler can be installed, a signal ends the program as usual.
    let _ = ctrlc::set_handler(|| {
        if let Some((stop, ui)) = STOP.get()
            && !stop.swap(true, Relaxed)
        {
            ui.note("stopping after this step; press Ctrl-C again to stop immediately");
            return;
        }
        if let Some(last) = taken() {
            let (done, wait) = mpsc::channel();
            thread::spawn(move || {
                last();
                done.send(())
            });
            let _ = wait.recv_timeout(PATIENCE);
        }
        files::remove_unfinished();
        process::exit(STATUS.into());
    });
}

/// A flag that the first signal sets; only the second ends the process.
pub fn stop_flag(ui: Ui) -> Arc<AtomicBool> {
    Arc::clone(&STOP.get_or_init(|| (Arc::default(), ui)).0)
}

/// Registers `last` to run before a signal ends the process, until [`withdraw`] is called.
pub fn before_end(last: impl FnOnce() + Send + 'static) {
    *BEFORE_END.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(last));
}

/// Cancels what [`before_end`] registered. Does not return if a signal came first, because the process is then about to
/// end.
pub fn withdraw() {
    if taken().is_none() {
        loop {
            thread::park();
        }
    }
}

fn taken() -> Option<Box<dyn FnOnce() + Send>> {
    BEFORE_END
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}
