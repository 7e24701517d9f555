//! Turns prompts into tokens: short ones at once, long ones on a thread of their own, so that
//! nobody else waits for that. Where there are no threads, all at once.

use std::sync::Arc;

use futures_channel::mpsc::UnboundedSender;

use super::engine_loop::Command;
use crate::error::Result;
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
    pub(super) fn prepare(&mut self, id: RequestId, input: Input) -> Option<Result<Vec<Prepared>>> {
        let input = match input.is_long() {
            true => self.helper.take(id, input)?,
            false => input,
        };
        Some(input.prepare(&self.loaded))
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
        pub(super) fn take(&mut self, id: RequestId, input: Input) -> Option<Input> {
            let prompts = input.prepare(&self.loaded);
            drop(self.commands.unbounded_send(Command::Prepared { id, prompts }));
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
        inputs: Sender<(RequestId, Input)>,
        handle: JoinHandle<()>,
    }

    impl Helper {
        pub(super) fn new(loaded: Arc<Loaded>, commands: UnboundedSender<Command>) -> Self {
            Helper { loaded, commands, thread: None }
        }

        /// Takes an input to prepare. Gives it back when there can be no thread.
        pub(super) fn take(&mut self, id: RequestId, input: Input) -> Option<Input> {
            if self.thread.is_none() {
                self.thread = self.start();
            }
            match &self.thread {
                Some(thread) => {
                    let sent = thread.inputs.send((id, input));
                    sent.err().map(|refused| refused.0.1)
                }
                None => Some(input),
            }
        }

        fn start(&self) -> Option<Thread> {
            let (sender, inputs) = mpsc::channel::<(RequestId, Input)>();
            let (loaded, commands) = (self.loaded.clone(), self.commands.clone());
            let work = move || {
                for (id, input) in inputs {
                    let prompts = input.prepare(&loaded);
                    if commands.unbounded_send(Command::Prepared { id, prompts }).is_err() {
                        return;
                    }
                }
            };
            let handle = Builder::new().name("realm-prompts".into()).spawn(work).ok()?;
            Some(Thread { inputs: sender, handle })
        }
    }

    impl Drop for Helper {
        fn drop(&mut self) {
            if let Some(Thread { inputs, handle }) = self.thread.take() {
                drop(inputs);
                // It holds the model's file until it ends.
                let _ = handle.join();
            }
        }
    }
}
