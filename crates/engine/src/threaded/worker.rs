//! The engine thread: owns the core, takes commands, steps while there is work.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use realm_tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};

use super::reply::{Reply, unanswered};
use crate::core::{Core, Event, GenerationId, Request};
use crate::error::{Error, Result};
use crate::options::{GenerateOptions, Prompt};

/// Where the events of a generation go. False when nobody listens any more: the
/// generation is aborted.
pub type Sink = Box<dyn FnMut(Event) -> bool + Send>;

/// A sink that is told how the generation ended, whatever happens.
pub(super) struct Listener {
    sink: Sink,
    is_over: bool,
}

impl Listener {
    pub(super) fn new(sink: Sink) -> Self {
        Listener { sink, is_over: false }
    }

    /// A sink that panics is one that left.
    fn hear(&mut self, event: Event) -> bool {
        self.is_over = !matches!(event, Event::Chunk(_));
        catch_unwind(AssertUnwindSafe(|| (self.sink)(event))).unwrap_or(false)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.is_over {
            self.hear(Event::Error(Arc::new(unanswered())));
        }
    }
}

/// A generation that was asked for.
pub(super) struct Start {
    pub(super) id: GenerationId,
    pub(super) prompt: Prompt,
    pub(super) options: GenerateOptions,
    pub(super) abort: Arc<AtomicBool>,
    pub(super) listener: Listener,
}

/// Work on the core between two steps.
pub(super) type Call = Box<dyn FnOnce(Option<&mut Core>) + Send>;

/// What the engine thread can be told.
pub(super) enum Command {
    Generate(Box<Start>),
    /// Runs between two steps; none when the model has no weights.
    Call(Call),
    /// Ends everything, frees it, then answers.
    Stop(Reply<()>),
}

/// State of the engine thread.
pub(super) struct Worker {
    pub(super) core: Option<Core>,
    pub(super) tokenizer: Arc<Tokenizer>,
    listeners: HashMap<GenerationId, (Listener, Arc<AtomicBool>)>,
}

impl Worker {
    pub(super) fn new(core: Option<Core>, tokenizer: Arc<Tokenizer>) -> Self {
        Worker { core, tokenizer, listeners: HashMap::new() }
    }

    /// Works until told to stop. Parked while there is nothing to do.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut stopped = None;
        while stopped.is_none() {
            let command = match self.is_idle() {
                true => commands.recv().map_err(|_| TryRecvError::Disconnected),
                false => commands.try_recv(),
            };
            match command {
                Ok(Command::Generate(start)) => self.guard(|worker| worker.generate(*start)),
                Ok(Command::Call(call)) => {
                    self.guard(|worker| call(worker.core.as_mut()));
                    self.step(); // calls come in long rows; generations take turns with them
                }
                Ok(Command::Stop(reply)) => stopped = Some(reply),
                Err(TryRecvError::Empty) => self.step(),
                Err(TryRecvError::Disconnected) => break,
            }
            self.deliver();
        }
        if let Some(core) = &mut self.core {
            core.fail_all(Arc::new(Error::Disposed));
        }
        self.deliver();
        drop(self);
        if let Some(reply) = stopped {
            reply.send(Ok(()));
        }
    }

    fn is_idle(&self) -> bool {
        self.core.as_ref().is_none_or(Core::is_idle)
    }

    fn step(&mut self) {
        self.guard(|worker| {
            if let Some(core) = &mut worker.core {
                pollster::block_on(core.step());
            }
        });
    }

    /// Keeps a panic from ending the thread: the generations end with an error.
    fn guard(&mut self, work: impl FnOnce(&mut Self)) {
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if let (Err(payload), Some(core)) = (result, &mut self.core) {
            core.recover(Error::from_panic(payload.as_ref()));
        }
    }

    fn generate(&mut self, mut start: Start) {
        let request = self.request(&mut start);
        match (&mut self.core, request) {
            (_, Err(error)) => drop(start.listener.hear(Event::Error(Arc::new(error)))),
            (None, _) => drop(start.listener.hear(Event::Error(Arc::new(no_weights())))),
            (Some(core), Ok(request)) => {
                self.listeners.insert(start.id, (start.listener, start.abort));
                core.start(start.id, request);
            }
        }
    }

    /// Turns a prompt into tokens.
    fn request(&self, start: &mut Start) -> Result<Request> {
        let options = start.options.clone();
        let prompt = std::mem::replace(&mut start.prompt, Prompt::Tokens(Vec::new()));
        let encode = EncodeOptions {
            add_special: options.add_special,
            parse_special: options.parse_special,
        };
        let (prompt, echo) = match prompt {
            Prompt::Text(text) => (self.tokenizer.encode(&text, encode), Some(text)),
            Prompt::Tokens(tokens) => {
                let text = options.echo.then(|| {
                    let bytes = self.tokenizer.decode(&tokens, DecodeOptions::default());
                    String::from_utf8_lossy(&bytes).into_owned()
                });
                (tokens, text)
            }
        };
        Ok(Request {
            prompt,
            sampling: options.sampling,
            max_tokens: options.max_tokens,
            min_tokens: options.min_tokens,
            ignore_eos: options.ignore_eos,
            stop: options.stop,
            echo: echo.filter(|_| options.echo),
            sequence: options.sequence,
            adapters: options.adapters,
            abort: start.abort.clone(),
        })
    }

    /// Hands out what happened.
    fn deliver(&mut self) {
        let Some(core) = &mut self.core else { return };
        for (id, event) in core.take_events() {
            let Some((listener, abort)) = self.listeners.get_mut(&id) else { continue };
            if !listener.hear(event) {
                abort.store(true, Ordering::Relaxed);
            }
            if listener.is_over {
                self.listeners.remove(&id);
            }
        }
    }
}

/// The error for a model that was opened for its vocabulary alone.
pub(super) fn no_weights() -> Error {
    Error::invalid("the model was loaded with vocabOnly: it has no weights to run")
}
