//! Turns prompts into tokens: short ones at once, others on threads of their own, so that
//! nobody else waits for that. Where there are no threads, all at once.
//!
//! How long a conversation takes shows only when its template runs. So there are two threads.
//! The first tries everything that is not large, with little time. What does not come to an end
//! in it, and what is large, is left to the second. Whoever has an ordinary prompt waits for
//! others' tries and never for the work of those who take long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

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

/// An input on its way to its tokens.
struct Job {
    id: RequestId,
    input: Input,
    /// Its request's, gone when that is over.
    abort: Weak<AtomicBool>,
}

/// Whether somebody still waits for a request.
fn is_wanted(abort: &Weak<AtomicBool>) -> bool {
    abort.upgrade().is_some_and(|abort| !abort.load(Ordering::Acquire))
}

impl Preparer {
    /// What is prepared elsewhere goes to `commands`.
    pub(super) fn new(loaded: Arc<Loaded>, commands: UnboundedSender<Command>) -> Self {
        Preparer { helper: helper::Helper::new(loaded.clone(), commands), loaded }
    }

    /// What becomes of the input of a request; none when that takes long: then it comes as
    /// [`Command::Prepared`], unless the request is aborted or over before its turn.
    pub(super) fn prepare(
        &mut self,
        id: RequestId,
        input: Input,
        abort: Weak<AtomicBool>,
    ) -> Option<Result<Vec<Prepared>>> {
        let job = Job { id, input, abort };
        let job = match job.input.is_long() {
            true => self.helper.take(job)?,
            false => job,
        };
        Some(job.input.prepare(&self.loaded, &|| is_wanted(&job.abort)))
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
        pub(super) fn take(&mut self, job: Job) -> Option<Job> {
            let Job { id, input, abort } = job;
            let prompts = input.prepare(&self.loaded, &|| is_wanted(&abort));
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
    use crate::prompt::Attempt;

    /// Two threads that are started when they are first needed. Dropping this waits for what
    /// they are working on and leaves the rest.
    pub(super) struct Helper {
        loaded: Arc<Loaded>,
        commands: UnboundedSender<Command>,
        closing: Arc<AtomicBool>,
        workers: Option<Workers>,
    }

    struct Workers {
        /// Tries what is not large.
        quick: Worker,
        /// Does what takes long.
        slow: Worker,
    }

    /// A thread that does one job after another.
    struct Worker {
        jobs: Sender<Job>,
        thread: JoinHandle<()>,
    }

    impl Helper {
        pub(super) fn new(loaded: Arc<Loaded>, commands: UnboundedSender<Command>) -> Self {
            Helper { loaded, commands, closing: Arc::default(), workers: None }
        }

        /// Takes an input to prepare. Gives it back when there can be no threads.
        pub(super) fn take(&mut self, job: Job) -> Option<Job> {
            if self.workers.is_none() {
                self.workers = self.start();
            }
            let Some(Workers { quick, slow }) = &self.workers else { return Some(job) };
            let worker = if job.input.is_large() { slow } else { quick };
            worker.jobs.send(job).err().map(|refused| refused.0)
        }

        fn start(&self) -> Option<Workers> {
            let (loaded, commands) = (self.loaded.clone(), self.commands.clone());
            let closing = self.closing.clone();
            let slow = self.worker("realm-prompts-slow", move |Job { id, input, abort }| {
                let is_wanted = || is_wanted(&abort) && !closing.load(Ordering::Acquire);
                let prompts = input.prepare(&loaded, &is_wanted);
                drop(commands.unbounded_send(Command::Prepared { id, prompts }));
            })?;
            let (loaded, commands) = (self.loaded.clone(), self.commands.clone());
            let left = slow.jobs.clone();
            let quick =
                self.worker("realm-prompts", move |Job { id, input, abort }| {
                    match input.attempt(&loaded) {
                        Attempt::Done(prompts) => {
                            drop(commands.unbounded_send(Command::Prepared { id, prompts }));
                        }
                        Attempt::Left(input) => drop(left.send(Job { id, input, abort })),
                    }
                })?;
            Some(Workers { quick, slow })
        }

        fn worker(&self, name: &str, mut work: impl FnMut(Job) + Send + 'static) -> Option<Worker> {
            let (sender, jobs) = mpsc::channel::<Job>();
            let closing = self.closing.clone();
            let work = move || {
                for job in jobs {
                    if closing.load(Ordering::Acquire) {
                        return;
                    }
                    if is_wanted(&job.abort) {
                        work(job);
                    }
                }
            };
            let thread = Builder::new().name(name.into()).spawn(work).ok()?;
            Some(Worker { jobs: sender, thread })
        }
    }

    impl Drop for Helper {
        fn drop(&mut self) {
            self.closing.store(true, Ordering::Release);
            let Some(Workers { quick, slow }) = self.workers.take() else { return };
            // The first one hands jobs to the second, which ends when nobody does any more. They
            // hold the model's file until they end.
            for Worker { jobs, thread } in [quick, slow] {
                drop(jobs);
                let _ = thread.join();
            }
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use std::path::Path;

    use futures_channel::mpsc::{self, UnboundedReceiver};
    use realm_gguf::Gguf;
    use realm_ir::Coded;
    use realm_tokenizer::EncodeOptions;

    use super::*;
    use crate::chat::ChatArguments;
    use crate::code::ErrorCode;
    use crate::load::{self, Watcher};
    use crate::options::{LoadOptions, Prompt};
    use crate::prompt::PromptOptions;

    /// Runs into every limit of time.
    const ENDLESS: &str = "{% for i in range(99999) %}{% for j in range(99999) %}{% set z = 1 %}\
                           {% endfor %}{% endfor %}";

    struct Bench {
        loaded: Arc<Loaded>,
        preparer: Preparer,
        commands: UnboundedReceiver<Command>,
    }

    impl Bench {
        fn new() -> Self {
            let path = "../../examples/models/realm-tiny-stories-Q8_0.gguf";
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            let options = LoadOptions { vocab_only: true, ..LoadOptions::default() };
            let cancel = AtomicBool::new(false);
            let mut watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
            let load = load::load(Gguf::open(path).unwrap(), &options, &[], &mut watcher);
            let loaded = Arc::new(pollster::block_on(load).unwrap().0);
            let (sender, commands) = mpsc::unbounded();
            Bench { preparer: Preparer::new(loaded.clone(), sender), loaded, commands }
        }

        fn prepare(&mut self, id: u64, input: Input, abort: &Arc<AtomicBool>) {
            self.prepare_while_held(id, input, Arc::downgrade(abort));
        }

        fn prepare_while_held(&mut self, id: u64, input: Input, abort: Weak<AtomicBool>) {
            let prepared = self.preparer.prepare(RequestId(id), input, abort);
            assert!(prepared.is_none(), "{id} is prepared by a helper");
        }

        /// What is prepared next.
        fn next(&mut self) -> (u64, Result<Vec<Prepared>>) {
            match pollster::block_on(self.commands.recv()) {
                Ok(Command::Prepared { id, prompts }) => (id.0, prompts),
                Ok(_) => panic!("another command"),
                Err(error) => panic!("nothing more is prepared: {error}"),
            }
        }

        /// How much more was prepared when everything is at an end.
        fn close(self) -> usize {
            let Bench { preparer, mut commands, .. } = self;
            drop(preparer);
            let mut n = 0;
            while pollster::block_on(commands.recv()).is_ok() {
                n += 1;
            }
            n
        }
    }

    fn options() -> PromptOptions {
        PromptOptions { add_special: false, parse_special: false, echo: false }
    }

    fn chat(template: Option<&str>) -> Input {
        let arguments = ChatArguments {
            messages: r#"[{"role": "user", "content": "Tell me a story."}]"#.into(),
            tools: None,
            variables: "{}".into(),
            add_generation_prompt: true,
            continue_final_message: false,
        };
        Input::Prompt(Prompt::Chat { template: template.map(str::to_owned), arguments }, options())
    }

    fn text(n_bytes: usize) -> Input {
        Input::Prompt(Prompt::Text("a ".repeat(n_bytes / 2)), options())
    }

    #[test]
    fn an_ordinary_prompt_does_not_wait_for_all_whose_templates_take_long() {
        let mut bench = Bench::new();
        let abort = Arc::default();
        (0..4).for_each(|id| bench.prepare(id, chat(Some(ENDLESS)), &abort));
        bench.prepare(4, chat(None), &abort);
        bench.prepare(5, text(20 << 10), &abort);
        let mut before = Vec::new();
        let mut waiting = vec![4, 5];
        while !waiting.is_empty() {
            let (id, prompts) = bench.next();
            match waiting.iter().position(|other| *other == id) {
                Some(place) => {
                    prompts.unwrap();
                    waiting.remove(place);
                }
                None => {
                    let error = prompts.unwrap_err();
                    assert_eq!(error.code(), ErrorCode::TemplateError);
                    assert!(error.to_string().contains("500 ms"), "{error}");
                    before.push(id);
                }
            }
        }
        assert!(!before.contains(&3), "they waited for {before:?}");
    }

    #[test]
    fn what_is_aborted_or_over_before_its_turn_is_not_prepared() {
        let mut bench = Bench::new();
        let wanted = Arc::default();
        for n_bytes in [20 << 10, 100 << 10] {
            bench.prepare(0, text(n_bytes), &Arc::new(AtomicBool::new(true)));
            bench.prepare_while_held(1, text(n_bytes), Weak::new());
            bench.prepare(2, text(n_bytes), &wanted);
            assert_eq!(bench.next().0, 2);
        }
        assert_eq!(bench.close(), 0);
    }

    #[test]
    fn closing_leaves_what_was_not_begun() {
        let mut bench = Bench::new();
        let abort = Arc::default();
        (0..20).for_each(|id| bench.prepare(id, chat(Some(ENDLESS)), &abort));
        assert!(bench.close() < 20);
    }

    #[test]
    fn a_large_text_that_a_template_renders_is_tokenised_as_that_text() {
        let mut bench = Bench::new();
        let abort = Arc::default();
        bench.prepare(1, chat(Some("{{ 'a ' * 50000 }}")), &abort);
        let (id, prompts) = bench.next();
        let plain = EncodeOptions { add_special: false, parse_special: false };
        let expected = bench.loaded.tokenizer.encode(&"a ".repeat(50_000), plain);
        assert_eq!((id, &prompts.unwrap()[0].tokens), (1, &expected));
    }
}
