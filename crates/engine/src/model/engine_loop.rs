//! The loop that drives an engine: takes commands, steps while there is work, hands out events.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::thread;

use futures_channel::mpsc::{TryRecvError, UnboundedReceiver, UnboundedSender};
use realm_model::Pooling;

use super::cause::{explain, explaining};
use super::preparer::Preparer;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::load::Pause;
use crate::loaded::Loaded;
use crate::options::{GenerateOptions, Prompt};
use crate::prompt::{Input, Prepared, PromptOptions};
use crate::requests::{
    Allowance, EmbedOptions, Event, GenerationRequest, LayerRequest, Reply, RequestId, unanswered,
};
use crate::stop::StopStrings;

/// Commands that are taken between two steps at most: whoever asks for much does not keep those
/// waiting who are being answered.
const COMMANDS_PER_STEP: usize = 16;

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
pub(super) struct StartGeneration {
    pub(super) id: RequestId,
    pub(super) prompt: Prompt,
    /// In place of those of `options`.
    pub(super) stop: Result<StopStrings>,
    pub(super) options: GenerateOptions,
    pub(super) abort: Arc<AtomicBool>,
    pub(super) allowance: Allowance,
    pub(super) listener: Listener,
}

/// What vectors of texts are wanted for.
pub(super) enum Purpose {
    /// Without `pooling`, the file's own.
    Embed { pooling: Option<Pooling>, normalize: bool },
    /// Scores of a model that ranks.
    Rank,
}

/// An embedding that was asked for.
pub(super) struct StartEmbedding {
    pub(super) id: RequestId,
    pub(super) input: Input,
    pub(super) purpose: Purpose,
    pub(super) abort: Arc<AtomicBool>,
    pub(super) reply: Reply<Vec<Vec<f32>>>,
}

/// Something done to the engine between two steps; none when the model has no weights.
pub(super) type Call = Box<dyn FnOnce(Option<&mut Engine>) + Send>;

/// What the loop can be told.
pub(super) enum Command {
    Generate(Box<StartGeneration>),
    Embed(Box<StartEmbedding>),
    Layers {
        id: RequestId,
        request: LayerRequest,
        reply: Reply<Vec<f32>>,
    },
    /// The prompt or the texts of a request that waits for them.
    Prepared {
        id: RequestId,
        prompts: Result<Vec<Prepared>>,
    },
    Call(Call),
    /// A flag was set, or more allowed, that somebody may have to see who has nothing to step for.
    Wake,
    /// Ends everything, frees it, then answers.
    Stop(Reply<()>),
}

/// Runs a model: [`EngineLoop::run`] has to be driven by a thread or a task of its own.
pub struct EngineLoop {
    /// None for a model without weights.
    engine: Option<Engine>,
    loaded: Arc<Loaded>,
    preparer: Preparer,
    commands: UnboundedReceiver<Command>,
    pause: Option<Pause>,
    listeners: HashMap<RequestId, (Listener, Arc<AtomicBool>)>,
}

impl EngineLoop {
    pub(super) fn new(
        engine: Option<Engine>,
        loaded: Arc<Loaded>,
        commands: UnboundedReceiver<Command>,
        sender: UnboundedSender<Command>,
        pause: Option<Pause>,
    ) -> Self {
        let (preparer, listeners) = (Preparer::new(loaded.clone(), sender), HashMap::new());
        EngineLoop { engine, loaded, preparer, commands, pause, listeners }
    }

    /// Works until the model is disposed of or dropped. Waits while there is nothing to do.
    pub async fn run(mut self) {
        let stopped = loop {
            match self.take_commands().await {
                Ok(()) => {}
                Err(stopped) => break stopped,
            }
            self.sweep();
            self.deliver();
            self.step().await;
            self.deliver();
            if let Some(pause) = self.pause
                && !self.is_idle()
            {
                pause().await;
            }
        };
        if let Some(engine) = &mut self.engine {
            engine.fail_all(Error::Disposed);
        }
        self.deliver();
        drop(self);
        if let Some(reply) = stopped {
            reply.send(Ok(()));
        }
    }

    /// Does what was asked for meanwhile; waits for something when there is nothing to step for.
    /// The error is the end, with whom to tell of it.
    async fn take_commands(&mut self) -> Result<(), Option<Reply<()>>> {
        let mut n_left = COMMANDS_PER_STEP;
        let mut command = match self.is_idle() {
            true => self.commands.recv().await.map_err(|_| TryRecvError::Closed),
            false => self.commands.try_recv(),
        };
        loop {
            match command {
                Ok(Command::Stop(reply)) => return Err(Some(reply)),
                Ok(command) => self.obey(command),
                Err(TryRecvError::Closed) => return Err(None),
                Err(TryRecvError::Empty) => return Ok(()),
            }
            n_left -= 1;
            if n_left == 0 {
                return Ok(());
            }
            command = self.commands.try_recv();
        }
    }

    fn obey(&mut self, command: Command) {
        let result = catch_unwind(AssertUnwindSafe(|| match command {
            Command::Generate(start) => self.generate(*start),
            Command::Embed(start) => self.embed(*start),
            Command::Layers { id, request, reply } => match &mut self.engine {
                Some(engine) => engine.run_layers(id, request, reply),
                None => reply.send(Err(no_weights())),
            },
            Command::Prepared { id, prompts } => {
                if let Some(engine) = &mut self.engine {
                    engine.prepared(id, prompts);
                }
            }
            Command::Call(call) => call(self.engine.as_mut()),
            // Nobody comes to an end here: whoever takes commands sees it first.
            Command::Wake | Command::Stop(_) => {}
        }));
        self.recover(result);
    }

    fn is_idle(&self) -> bool {
        self.engine.as_ref().is_none_or(Engine::is_idle)
    }

    /// Ends what was aborted, so that it is heard of before the next batch.
    fn sweep(&mut self) {
        if let Some(engine) = &mut self.engine {
            let result = catch_unwind(AssertUnwindSafe(|| engine.sweep()));
            self.recover(result);
        }
    }

    async fn step(&mut self) {
        if let Some(engine) = &mut self.engine {
            let result = caught(engine.step()).await;
            self.recover(result);
        }
    }

    /// Keeps a panic from ending the loop: what was under way ends with an error.
    fn recover(&mut self, result: thread::Result<()>) {
        if let (Err(payload), Some(engine)) = (result, &mut self.engine) {
            engine.recover(Error::from_panic(payload.as_ref()));
        }
    }

    fn generate(&mut self, start: StartGeneration) {
        let StartGeneration { id, prompt, stop, options, abort, allowance, mut listener } = start;
        let Some(engine) = &mut self.engine else {
            listener.hear(Event::Error(Arc::new(no_weights())));
            return;
        };
        let stop = match stop {
            Ok(stop) => stop,
            Err(error) => {
                listener.hear(Event::Error(Arc::new(error)));
                return;
            }
        };
        let prompt_options = PromptOptions {
            add_special: options.add_special,
            parse_special: options.parse_special,
            echo: options.echo,
        };
        let request = GenerationRequest {
            prompt: Vec::new(),
            sampling: options.sampling,
            max_tokens: options.max_tokens,
            min_tokens: options.min_tokens,
            ignore_eos: options.ignore_eos,
            stop,
            echo: None,
            sequence: options.sequence,
            adapters: options.adapters,
            abort: abort.clone(),
            allowance,
        };
        let weak = Arc::downgrade(&abort);
        self.listeners.insert(id, (listener, abort));
        if engine.register_generation(id, request) {
            self.prepare(id, Input::Prompt(prompt, prompt_options), weak);
        }
    }

    fn embed(&mut self, start: StartEmbedding) {
        let StartEmbedding { id, input, purpose, abort, reply } = start;
        let Some(engine) = &mut self.engine else {
            return reply.send(Err(no_weights()));
        };
        match embed_options(purpose, engine.default_pooling()) {
            Ok(options) => {
                let weak = Arc::downgrade(&abort);
                let reply = explaining(self.loaded.clone(), abort.clone(), reply);
                if engine.register_embedding(id, options, abort, reply) {
                    self.prepare(id, input, weak);
                }
            }
            Err(error) => reply.send(Err(error)),
        }
    }

    /// Turns the input of a registered request into tokens: here, or elsewhere when that takes
    /// long.
    fn prepare(&mut self, id: RequestId, input: Input, abort: Weak<AtomicBool>) {
        if let Some(prompts) = self.preparer.prepare(id, input, abort)
            && let Some(engine) = &mut self.engine
        {
            engine.prepared(id, prompts);
        }
    }

    /// Hands out what happened.
    fn deliver(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        for (id, event) in engine.take_events() {
            let Entry::Occupied(mut place) = self.listeners.entry(id) else { continue };
            if let Event::Error(error) = &event
                && error.is_not_finite()
            {
                let (mut listener, abort) = place.remove();
                let done = move |error| {
                    listener.hear(Event::Error(error));
                };
                explain(self.loaded.clone(), abort, error.clone(), done);
                continue;
            }
            let (listener, abort) = place.get_mut();
            if !listener.hear(event) {
                abort.store(true, Ordering::Release);
            }
            if listener.is_over {
                place.remove();
            }
        }
    }
}

/// What a model whose file asks for `default` pooling can be asked for.
fn embed_options(purpose: Purpose, default: Pooling) -> Result<EmbedOptions> {
    match purpose {
        Purpose::Embed { pooling, normalize } => match pooling.unwrap_or(default) {
            Pooling::Rank => Err(Error::invalid("the model ranks: use rerank, or name a pooling")),
            pooling => Ok(EmbedOptions { pooling, normalize }),
        },
        Purpose::Rank if default == Pooling::Rank => {
            Ok(EmbedOptions { pooling: Pooling::Rank, normalize: false })
        }
        Purpose::Rank => Err(Error::invalid(format!(
            "the model does not rank: its pooling is \"{}\"; rank by comparing embeddings",
            default.as_str()
        ))),
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
