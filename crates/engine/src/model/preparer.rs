//! Turns prompts into tokens: short ones at once, long ones on a thread of their own, so that
//! nobody else waits for that. Where there are no threads, all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_channel::mpsc::UnboundedSender;

use super::engine_loop::Command;
use crate::error::{Error, Result};
use crate::loaded::Loaded;
use crate::prompt::{Input, Prepared};
use crate::requests::RequestId;

/// Prepares the inputs of one model's requests.
pub(super) struct Preparer {
    loaded: Arc<Loaded>,
    helper: helper::Helper,
}

impl Preparer {
    /// What is prepared elsewhere goes to `commands`.
    pub(super) fn new(loaded: Arc<Loaded>, commands: UnboundedSender<Command>) -> Self {
        Preparer { helper: helper::Helper::new(loaded.clone(), commands), loaded }
    }

    /// What becomes of the input of a request; none when that takes long: then it comes as
    /// [`Command::Prepared`].
    pub(super) fn prepare(
        &mut self,
        id: RequestId,
        input: Input,
        abort: &Arc<AtomicBool>,
    ) -> Option<Result<Vec<Prepared>>> {
        let input = match input.is_long() {
            true => self.helper.take(Job { id, input, abort: abort.clone() })?,
            false => input,
        };
        Some(input.prepare(&self.loaded))
    }
}

/// An input that takes long.
struct Job {
    id: RequestId,
    input: Input,
    /// Whether nobody waits for it any more.
    abort: Arc<AtomicBool>,
}

impl Job {
    /// What becomes of it, as a command.
    fn run(self, loaded: &Loaded) -> Command {
        let prompts = match self.abort.load(Ordering::Acquire) {
            true => Err(Error::Aborted),
            false => self.input.prepare(loaded),
        };
        Command::Prepared { id: self.id, prompts }
    }
}

#[cfg(target_arch = "wasm32")]
mod helper {
    use super::*;

    /// There are no threads: what it takes it prepares at once.
    pub(super) struct Helper {
        loaded: Arc<Loaded>,
        commands: UnboundedSender<Command>,
    }

    impl Helper {
        pub(super) fn new(loaded: Arc<Loaded>, commands: UnboundedSender<Command>) -> Self {
            Helper { loaded, commands }
        }

        /// Takes an input to prepare.
        pub(super) fn take(&mut self, job: Job) -> Option<Input> {
            drop(self.commands.unbounded_send(job.run(&self.loaded)));
            None
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod helper {
    use std::sync::mpsc::{self, Sender};
    use std::thread::{Builder, JoinHandle};

    use super::*;

    /// A thread that is started when it is first needed. Dropping this waits for what it is
    /// working on and leaves the rest.
    pub(super) struct Helper {
        loaded: Arc<Loaded>,
        commands: UnboundedSender<Command>,
        thread: Option<Thread>,
    }

    struct Thread {
        jobs: Sender<Job>,
        is_closing: Arc<AtomicBool>,
        handle: JoinHandle<()>,
    }

    impl Helper {
        pub(super) fn new(loaded: Arc<Loaded>, commands: UnboundedSender<Command>) -> Self {
            Helper { loaded, commands, thread: None }
        }

        /// Takes an input to prepare. Gives it back when there can be no thread.
        pub(super) fn take(&mut self, job: Job) -> Option<Input> {
            if self.thread.is_none() {
                self.thread = self.start();
            }
            match &self.thread {
                Some(thread) => {
                    let sent = thread.jobs.send(job);
                    sent.err().map(|refused| refused.0.input)
                }
                None => Some(job.input),
            }
        }

        fn start(&self) -> Option<Thread> {
            let (sender, jobs) = mpsc::channel::<Job>();
            let (loaded, commands) = (self.loaded.clone(), self.commands.clone());
            let is_closing = Arc::new(AtomicBool::new(false));
            let closing = is_closing.clone();
            let work = move || {
                for job in jobs {
                    if closing.load(Ordering::Acquire)
                        || commands.unbounded_send(job.run(&loaded)).is_err()
                    {
                        return;
                    }
                }
            };
            let handle = Builder::new().name("realm-prompts".into()).spawn(work).ok()?;
            Some(Thread { jobs: sender, is_closing, handle })
        }
    }

    impl Drop for Helper {
        fn drop(&mut self) {
            if let Some(Thread { jobs, is_closing, handle }) = self.thread.take() {
                is_closing.store(true, Ordering::Release);
                drop(jobs);
                // It holds the model's file until it ends.
                let _ = handle.join();
            }
        }
    }
}
