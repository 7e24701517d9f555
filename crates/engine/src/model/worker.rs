//! The engine: owns the core, takes commands, steps while there is work.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use futures_channel::mpsc::{TryRecvError, UnboundedReceiver};

use realm_tokenizer::{DecodeOptions, EncodeOptions};

use super::reply::{Reply, unanswered};
use crate::chat::TIME_IN_BACKGROUND;
use crate::core::{Core, Event, GenerationId, Request};
use crate::error::{Error, Result};
use crate::load::{LocalFuture, Pause};
use crate::loaded::Loaded;
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
pub(super) type Call = Box<dyn for<'a> FnOnce(Option<&'a mut Core>) -> LocalFuture<'a, ()> + Send>;

/// What the engine can be told.
pub(super) enum Command {
    Generate(Box<Start>),
    /// Runs between two steps; none when the model has no weights.
    Call(Call),
    /// Ends everything, frees it, then answers.
    Stop(Reply<()>),
}

/// Runs a model: [`Engine::run`] has to be driven by a thread or a task of its own.
pub struct Engine {
    core: Option<Core>,
    loaded: Arc<Loaded>,
    commands: UnboundedReceiver<Command>,
    pause: Option<Pause>,
    listeners: HashMap<GenerationId, (Listener, Arc<AtomicBool>)>,
}

impl Engine {
    pub(super) fn new(
        core: Option<Core>,
        loaded: Arc<Loaded>,
        commands: UnboundedReceiver<Command>,
        pause: Option<Pause>,
    ) -> Self {
        Engine { core, loaded, commands, pause, listeners: HashMap::new() }
    }

    /// Works until the model is disposed of or dropped. Waits while there is nothing to do.
    pub async fn run(mut self) {
        let mut stopped = None;
        while stopped.is_none() {
            let command = match self.is_idle() {
                true => self.commands.recv().await.map_err(|_| TryRecvError::Closed),
                false => self.commands.try_recv(),
            };
            match command {
                Ok(Command::Generate(start)) => self.start(*start),
                Ok(Command::Call(call)) => {
                    let result = caught(async { call(self.core.as_mut()).await }).await;
                    self.recover(result);
                    self.step().await; // calls come in long rows; generations take turns with them
                }
                Ok(Command::Stop(reply)) => stopped = Some(reply),
                Err(TryRecvError::Empty) => self.step().await,
                Err(TryRecvError::Closed) => break,
            }
            self.deliver();
            if let Some(pause) = self.pause
                && !self.is_idle()
            {
                pause().await;
            }
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

    async fn step(&mut self) {
        if let Some(core) = &mut self.core {
            let result = caught(core.step()).await;
            self.recover(result);
        }
    }

    fn start(&mut self, start: Start) {
        let result = catch_unwind(AssertUnwindSafe(|| self.generate(start)));
        self.recover(result);
    }

    /// Keeps a panic from ending the engine: the generations end with an error.
    fn recover(&mut self, result: thread::Result<()>) {
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
        let Loaded { tokenizer, templates, .. } = &*self.loaded;
        let (prompt, echo) = match prompt {
            Prompt::Text(text) => (tokenizer.encode(&text, encode), Some(text)),
            Prompt::Chat { template, arguments } => {
                let text = templates.render(template.as_deref(), &arguments, TIME_IN_BACKGROUND)?;
                (tokenizer.encode(&text, encode), Some(text))
            }
            Prompt::Tokens(tokens) => {
                let text = options.echo.then(|| {
                    let bytes = tokenizer.decode(&tokens, DecodeOptions::default());
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

/// What `work` gives, or the panic that ended it.
async fn caught<T>(work: impl Future<Output = T>) -> thread::Result<T> {
    let mut work = pin!(work);
    let poll = |context: &mut std::task::Context<'_>| match catch_unwind(AssertUnwindSafe(|| {
        work.as_mut().poll(context)
    })) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    };
    poll_fn(poll).await
}
